"""Self-training on the zero-shot classifier's confident labels, in rounds.

    clipjax train --config=configs/self_training.py --config.problem.weights=ViT-B-32.pt \
        --config.problem.images=photos --config.problem.classes=classes.txt --workdir=run
"""

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config

TEMPLATES = {
    "": "a photo of a {}.",
    "testbed_eurosat": "a centered satellite photo of {}.",
    "testbed_pacs_cartoon": "a photo of a {}.",
}


def get_config(dataset: str = "") -> ConfigDict:
    """Return the configuration, with the settings of a testbed's domain where one is named."""
    if dataset not in TEMPLATES:
        raise ValueError(f"no data set {dataset!r}; known are {', '.join(filter(None, TEMPLATES))}")
    config = ConfigDict()
    config.method = "self_training"
    config.problem = problem_config(template=(TEMPLATES[dataset],))
    config.rounds = 3
    config.confidence = 0.7
    config.epochs = 10.0
    config.batch_size = 64
    config.optimizer = ConfigDict({"name": "adamw", "lr": 1e-5, "weight_decay": 0.1})
    config.seed = 0
    if dataset.startswith("testbed_"):
        domain = ("extra=cartoon",) if dataset == "testbed_pacs_cartoon" else ()
        config.problem.where = ("testbed=target-train", *domain)
        config.problem.test_where = ("testbed=target-test", *domain)
        config.epochs, config.optimizer.lr, config.confidence = 3.0, 1e-4, 0.5
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 500, "log_every": 20})
    return config
