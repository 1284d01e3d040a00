"""Learned prompts on confident pseudo-labels (UPL), with the authors' settings and smaller ones for the testbed.

    clipjax train --config=configs/upl.py:eurosat --config.problem.weights=ViT-B-16.pt \
        --config.problem.images=eurosat --config.problem.classes=classes.txt --workdir=run
"""

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config

TEMPLATES = {
    "": "a photo of a {}.",
    "eurosat": "a centered satellite photo of {}.",
    "dtd": "{} texture.",
    "testbed_eurosat": "a centered satellite photo of {}.",
    "testbed_pacs_cartoon": "a photo of a {}.",
}


def get_config(dataset: str = "") -> ConfigDict:
    """Return the configuration, with the class texts of a known `dataset` where one is named."""
    if dataset not in TEMPLATES:
        raise ValueError(f"no data set {dataset!r}; known are {', '.join(filter(None, TEMPLATES))}")
    config = ConfigDict()
    config.method = "upl"
    config.problem = problem_config(template=(TEMPLATES[dataset],))
    config.shots = 16
    # the testbed's text tower was trained on texts of 20 tokens
    testbed = dataset.startswith("testbed_")
    config.contexts = 8 if testbed else 16
    config.crop = 0.5 if testbed else 0.08
    config.epochs = 50.0
    config.batch_size = 32
    config.ensemble = 1
    config.seed = 0
    if dataset.startswith("testbed_"):
        domain = ("extra=cartoon",) if dataset == "testbed_pacs_cartoon" else ()
        config.problem.where = ("testbed=target-train", *domain)
        config.problem.test_where = ("testbed=target-test", *domain)
    config.optimizer = ConfigDict({"name": "sgd", "lr": 2e-3, "weight_decay": 5e-4})
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 1000, "log_every": 50})
    return config
