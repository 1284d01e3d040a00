"""Groups of images that a caption describes together, and the one picture that shows a group."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from PIL import Image

from clipjax.texts.record import Kind

CANVAS, GAP, GROUP = 672, 20, 4
"""Sides of the picture and of the gap between its cells in pixels, and images of a group (LatteCLIP's own)."""


def draw_groups(
    labels: Int[np.ndarray, " images"], *, size: int = GROUP, seed: int = 0
) -> Int[np.ndarray, "images size"]:
    """Draw for each image a group among the images of its (pseudo-)label; the image itself need not be in it.

    Without replacement, unless there are fewer images of the label than places (arXiv 2410.08211, its code).
    """
    groups = np.empty((len(labels), size), np.int64)
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    for anchor, label in enumerate(labels.tolist()):
        pool = members[label]
        # a generator for each anchor: a group does not depend on which others are asked for
        random = np.random.default_rng((seed, anchor))
        groups[anchor] = random.choice(pool, size, replace=len(pool) < size)
    return groups


def group_canvas(images: Sequence[Image.Image]) -> Image.Image:
    """Show images on one black square, row by row, each as large as its cell allows and centred: four as two by two.

    Raises:
      ValueError: there is no image.
    """
    if not images:
        raise ValueError("a group without images has no picture; give at least one")
    columns = math.isqrt(len(images) - 1) + 1
    cell = (CANVAS - GAP * (columns - 1)) // columns
    canvas = Image.new("RGB", (CANVAS, CANVAS))
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        scale = min(cell / image.width, cell / image.height)
        width, height = (max(1, round(side * scale)) for side in image.size)
        shown = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        left, top = column * (cell + GAP) + (cell - width) // 2, row * (cell + GAP) + (cell - height) // 2
        canvas.paste(shown, (left, top))
    return canvas


def pair_canvas(first: Image.Image, second: Image.Image) -> Image.Image:
    """Show two images side by side at the height of the larger, for models that take one image."""
    height = max(first.height, second.height)
    parts = [
        image.convert("RGB").resize(
            (max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS
        )
        for image in (first, second)
    ]
    canvas = Image.new("RGB", (parts[0].width + GAP + parts[1].width, height))
    canvas.paste(parts[0], (0, 0))
    canvas.paste(parts[1], (parts[0].width + GAP, 0))
    return canvas


def presented(kind: Kind, images: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the picture that a model is shown: a group and a pair as one, everything else as it is."""
    if kind == "difference" and len(images) == 2:
        return [pair_canvas(*images)]
    return [group_canvas(images)] if kind == "group_caption" else list(images)


def draw_pairs(images: int, count: int, *, seed: int = 0) -> Int[np.ndarray, "pairs 2"]:
    """Draw different ordered pairs of different images, at most as many as there are unordered ones.

    An unordered pair occurs once, in one of its two orders: a difference and its reverse say the same.
    """
    most = images * (images - 1) // 2
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(most, min(count, most), replace=False))
    # the number of a pair i < j is j (j - 1) / 2 + i
    second = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > chosen
    pairs = np.stack([chosen - second * (second - 1) // 2, second], axis=1)
    flipped = random.random(len(pairs)) < 0.5
    pairs[flipped] = pairs[flipped, ::-1]
    return random.permutation(pairs)
