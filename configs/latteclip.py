"""LatteCLIP on a data set: the authors' steps and settings for their ten, and smaller ones of our own.

    clipjax train --config=configs/latteclip.py:eurosat --config.problem.weights=laion/CLIP-ViT-B-32-laion2B-s34B-b79K \
        --config.problem.images=eurosat --config.problem.splits_file=split_zhou_EuroSAT.json \
        --config.problem.classes=classes.txt --config.problem.texts=texts.jsonl --workdir=run
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config
from clipjax.data.glyph_captions import DIGIT_TEMPLATES


class Recipe(NamedTuple):
    """What differs between data sets."""

    template: str = "a photo of a {}."
    steps: int = 600
    warmup: int = 10
    steps_per_epoch: int = 12
    weight_decay: float = 0.2


# steps: the authors' epochs times OpenCLIP's batches of 512 in an epoch
PUBLISHED = {
    "caltech101": Recipe(weight_decay=1e-7),
    "dtd": Recipe("{} texture.", 900, 10, 9),
    "eurosat": Recipe("a photo of a {}.", 585, 40, 39),
    "fgvc_aircraft": Recipe("a photo of a {}, a type of aircraft.", 750, 15, 15),
    "flower102": Recipe("a photo of a {}, a type of flower.", 600, 12, 12),
    "food101": Recipe("a photo of a {}, a type of food.", 2115, 140, 141),
    "oxford_pets": Recipe("a photo of a {}.", 900, 10, 9),
    "stanford_cars": Recipe("a photo of a {}.", 900, 20, 18),
    "sun397": Recipe("a photo of a {}.", 585, 40, 39),
    "ucf101": Recipe("a photo of a person doing {}", 1050, 20, 21),
}

TESTBED = {"testbed_eurosat": Recipe("a centered satellite photo of {}."), "testbed_pacs_cartoon": Recipe()}
QUICKSTART = "quickstart"


def get_config(dataset: str = "") -> ConfigDict:
    """Return the configuration for a data set of the authors or of ours, or, without a name, for any other."""
    known = {"": Recipe(), **PUBLISHED, **TESTBED, QUICKSTART: Recipe()}
    if dataset not in known:
        raise ValueError(f"no data set {dataset!r}; known are {', '.join(filter(None, known))}")
    recipe = known[dataset]
    config = ConfigDict()
    config.method = "latteclip"
    config.problem = problem_config(template=(recipe.template,))
    config.alpha = 0.01
    config.texts = ("class", "image", "group")
    config.branches = ("finetuned", "zero_shot")
    config.mode = "intended"
    config.seed = 0
    config.optimizer = ConfigDict({"name": "adamw", "lr": 1e-7, "b2": 0.98, "eps": 1e-6})
    config.optimizer.weight_decay = recipe.weight_decay
    config.stopping = ConfigDict({"patience": 0})
    if dataset in PUBLISHED:
        # the images of CoOp's train and val parts, and its test part to measure on
        config.problem.where, config.problem.test_split = ("split=train", "split=val"), "test"
        config.batch_size, config.steps, config.optimizer.warmup = 512, recipe.steps, recipe.warmup
        config.steps_per_epoch = recipe.steps_per_epoch
    else:
        config.batch_size, config.epochs = 64, 15.0
    if dataset in TESTBED:
        config.problem.where, config.problem.test_where = ("testbed=target-train",), ("testbed=target-test",)
        config.epochs, config.optimizer.lr = 3.0, 3e-4
    if dataset == "testbed_pacs_cartoon":
        config.problem.where += ("extra=cartoon",)
        config.problem.test_where += ("extra=cartoon",)
    if dataset == QUICKSTART:  # what `clipjax quickstart` does, for other small CLIPs
        config.problem.template = DIGIT_TEMPLATES
        config.epochs, config.optimizer.lr = 5.0, 3e-4
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 500, "log_every": 20})
    return config
