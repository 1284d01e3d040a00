"""Few-shot baselines with frozen towers, with their authors' settings; the argument is the method.

    clipjax train --config=configs/few_shot.py:tip_adapter_f --config.problem.weights=ViT-B-16.pt \
        --config.problem.images=eurosat.tar --config.problem.split=train --workdir=run
"""

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config

SGD = {"name": "sgd", "lr": 2e-3, "weight_decay": 5e-4}
VIEWS = {"count": 8, "crop": 0.08, "flip": 0.5}
SETTINGS = {
    "descriptions": {"share": 1.0},
    "tip_adapter": {"strength": 1.0, "sharpness": 5.5, "finetune": False, "views": {"count": 10, "crop": 0.5}},
    "tip_adapter_f": {"strength": 1.0, "sharpness": 5.5, "finetune": True, "epochs": 20.0, "batch_size": 256},
    "clip_adapter": {"ratio": 0.2, "reduction": 4, "batch_size": 32, "optimizer": SGD, "views": VIEWS},
    "coop": {"contexts": 16, "batch_size": 32, "optimizer": SGD, "views": VIEWS},
    "kgcoop": {"words": "a photo of a", "knowledge": 8.0, "batch_size": 32, "optimizer": SGD, "views": VIEWS},
    "cocoop": {"words": "a photo of a", "epochs": 10.0, "batch_size": 1, "optimizer": SGD, "views": VIEWS},
}


def get_config(method: str = "tip_adapter") -> ConfigDict:
    """Return the configuration of a method; `tip_adapter_f` is `tip_adapter` with trained keys."""
    if method not in SETTINGS:
        raise ValueError(f"no method {method!r} here; known are {', '.join(SETTINGS)}")
    config = ConfigDict(SETTINGS[method])
    config.method = method.removesuffix("_f")
    config.problem = problem_config(template=("a photo of a {}.",), shots=16)
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 1000, "log_every": 50})
    return config
