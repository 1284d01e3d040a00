"""Pretraining on photographs from tars, short: captions and class names in one batch, equal captions sharing.

    clipjax train --config=benchmarks/testbed_recipe.py --workdir=recipe
    clipjax zeroshot --weights recipe --images $DATA/images/cifar10.tar --where testbed=heldout-test --labels

The sizes, sources and caption length are those of the small CLIP that the tests adapt, on the part of its
images that lies in $CLIPJAX_TEST_DATA, and Caltech's own validation part, for 200 of its 3,247 steps.
"""

import os
import runpy
from pathlib import Path

from ml_collections import ConfigDict

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTO = "a photo of a {}."
SEEN = ("testbed=pretrain",)


def get_config() -> ConfigDict:
    """Return `configs/pretrain.py:images` with its sources filled in."""
    data = Path(os.environ.get("CLIPJAX_TEST_DATA", REPOSITORY.parent / "shared")) / "data"
    config = runpy.run_path(str(REPOSITORY / "configs" / "pretrain.py"))["get_config"]("images")
    images = lambda name: str(data / "images" / f"{name}.tar")
    named = lambda name, rows, template=PHOTO, crop=0.35, **more: {
        "images": images(name),
        "rows": rows,
        "template": (template,),
        "crop": crop,
        "flip": 0.5,
        **({"where": SEEN} | more),
    }
    config.data.sources = (
        {
            "images": images("flickr8k"),
            "where": SEEN,
            "rows": 48,
            "captions": str(data / "texts" / "captions" / "flickr8k_captions_all40455.csv"),
            "crop": 0.35,
        },
        named("cifar10", 120, crop=0.5),
        named("pacs", 60),
        named("caltech101", 20, where=(), split="val"),
        named("dtd_10classes", 8, "{} texture."),
    )
    config.steps = 200
    config.run.checkpoint_every = 100
    return config
