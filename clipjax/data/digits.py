"""Real handwritten digits that are always at hand: the 1,797 inside scikit-learn, in three fixed parts.

A subset of the UCI set "Optical Recognition of Handwritten Digits" (8x8 pixels, 16 shades).
"""

import io
from typing import Literal

import numpy as np

from clipjax.data.source import ImageSource, memory_source

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Part = Literal["choose", "adapt", "test"]


def handwritten_digits(part: Part | None = None) -> ImageSource:
    """Return all digits, or one of three parts of 599 that share no image.

    On "choose" hyper-parameters are chosen, methods adapt to "adapt" without looking at its labels,
    and numbers are reported on "test".
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    flat, labels = load_digits(return_X_y=True)
    grey = (np.asarray(flat).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    encoded = []
    for pixels in grey:
        with io.BytesIO() as file:
            Image.fromarray(pixels).save(file, "png")
            encoded.append(file.getvalue())
    # writers follow each other in the file: shuffled, the parts hold the same hands
    order = np.random.default_rng(1797).permutation(len(encoded))
    parts = np.empty(len(encoded), object)
    for name, rows in zip(("choose", "adapt", "test"), np.split(order, 3)):
        parts[rows] = name
    source = memory_source(
        encoded,
        labels=labels.tolist(),
        classnames=[DIGIT_NAMES[label] for label in labels],
        splits=list(parts),
        name="handwritten digits",
    )
    return source if part is None else source.where(split=part)
