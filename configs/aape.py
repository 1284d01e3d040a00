"""Descriptions distilled into a prompt generator (AAPE), with the paper's settings and smaller ones for the testbed.

    clipjax train --config=configs/aape.py:eurosat --config.problem.weights=ViT-B-16.pt \
        --config.problem.images=eurosat --config.problem.texts=descriptions.jsonl --workdir=run

Arguments: a data set, `head_V0`, `head_V1` or `head_V3` (other class heads), `mean`, `random` or `mlp` (other
aggregators), `joint`.
"""

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config

TEMPLATES = {
    "": "a photo of a {}.",
    "testbed_eurosat": "a centered satellite photo of {}.",
    "testbed_dtd": "{} texture.",
    "testbed_caltech101": "a photo of a {}.",
}
# the paper has one template for all data sets
DATASETS = ("eurosat", "dtd", "caltech101", "ucf101", "oxford_pets", "imagenet")
CHANGES = ("head_V0", "head_V1", "head_V3", "mean", "random", "mlp", "joint")


def get_config(argument: str = "") -> ConfigDict:
    """Return the configuration of a data set, or with one change to the method."""
    if argument not in (*TEMPLATES, *DATASETS, *CHANGES):
        raise ValueError(
            f"no argument {argument!r}; known are {', '.join(filter(None, (*TEMPLATES, *DATASETS, *CHANGES)))}"
        )
    config = ConfigDict()
    config.method = "aape"
    config.problem = problem_config(template=(TEMPLATES.get(argument, TEMPLATES[""]),), shots=16)
    config.variant = argument.removeprefix("head_") if argument.startswith("head_") else "V2"
    config.aggregation = ConfigDict({"kind": argument if argument in ("mean", "random", "mlp") else "attention"})
    config.joint = argument == "joint"
    config.weight = 5.0
    if argument == "imagenet":
        config.epochs = 50.0
    config.batch_size = 32
    config.views = ConfigDict({"count": 8, "crop": 0.5 if argument.startswith("testbed_") else 0.08, "flip": 0.5})
    config.optimizer = ConfigDict({"name": "sgd", "lr": 2e-3, "weight_decay": 5e-4})
    config.seed = 0
    if argument == "testbed_caltech101":
        config.problem.split, config.problem.test_split, config.problem.shots = "val", "test", 6
    elif argument.startswith("testbed_"):
        config.problem.where, config.problem.test_where = ("testbed=target-train",), ("testbed=target-test",)
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 1000, "log_every": 50})
    return config
