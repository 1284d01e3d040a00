"""Folders of small pictures, written when a test asks for them."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red_panda": (200, 30, 30), "green_tree": (30, 200, 30), "blue_sky": (30, 30, 200)}


def write_pictures(folder: Path, seed: int = 0, per_class: int = 4) -> Path:
    """Write pictures of noise around one colour for each of three classes, in class folders."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(random.normal(colour, 40, (18, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
