"""Contrastive fine-tuning with class texts as captions, on labels or on zero-shot pseudo-labels.

    clipjax train --config=configs/finetune.py --config.problem.weights=ViT-B-32.pt \
        --config.problem.images=photos --config.problem.classes=classes.txt --workdir=run
"""

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config


def get_config(dataset: str = "") -> ConfigDict:
    """Return the configuration, with the class texts of a known `dataset` (eurosat, dtd, pacs) where one is named."""
    templates = {"": "a photo of a {}.", "eurosat": "a centered satellite photo of {}.", "dtd": "{} texture."}
    templates["pacs"] = templates[""]
    if dataset not in templates:
        raise ValueError(f"no data set {dataset!r}; known are {', '.join(filter(None, templates))}")
    config = ConfigDict()
    config.method = "finetune"
    config.problem = problem_config(template=(templates[dataset],))
    config.labels = "auto"
    config.confident = 1.0
    config.epochs = 10.0
    config.batch_size = 64
    config.optimizer = ConfigDict({"name": "adamw", "lr": 1e-5, "weight_decay": 0.1})
    config.trainable = ("",)
    config.mix = 1.0
    config.seed = 0
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 500, "log_every": 20})
    return config
