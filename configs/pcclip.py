"""PC-CLIP on images and differences written about them: as released, as a small search, and its two baselines.

    clipjax train --config=configs/pcclip.py:practical --config.problem.weights=ViT-L-14.pt \
        --config.problem.images=photos --config.problem.texts=texts.jsonl --config.problem.classes=classes.txt \
        --workdir=run
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from clipjax.cli.problem_config import problem_config

PRESETS = ("paper_code", "practical", "captions", "rewrites")


def get_config(preset: str = "paper_code") -> ConfigDict:
    """Return the configuration of a preset."""
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; known are {', '.join(PRESETS)}")
    config = ConfigDict()
    config.method = "pcclip"
    config.problem = problem_config(template=("This is a photo of a {}",))
    config.learn_from = "differences"
    config.images = 1000
    config.temperature = 1.0
    config.epochs = 20.0
    config.batch_size = 512
    config.optimizer = ConfigDict({"name": "adam", "lr": 1e-8, "schedule": "exponential", "decay_rate": 0.9})
    config.storage = "plain"
    if preset == "practical":
        config.storage = "delta"
        config.held_out = 0.2
        config.learning_rates = (1e-8, 1e-7, 1e-6, 1e-5)
        config.temperatures = (1.0, 0.5, 0.1)
    if preset in ("captions", "rewrites"):
        config.learn_from = preset
        config.temperature = 0.1
        config.batch_size = 128
        config.optimizer.lr = 1e-6
    if preset == "captions":
        config.images = placeholder(int)
        config.epochs = 50.0
    config.seed = 0
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 500, "log_every": 20})
    return config
