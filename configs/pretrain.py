"""Contrastive pretraining.

clipjax train --config=configs/pretrain.py:glyphs --workdir=run      # the model inside the package
clipjax train --config=configs/pretrain.py:images --config.data.sources="[...]" --workdir=run
"""

from ml_collections import ConfigDict


def get_config(name: str = "glyphs") -> ConfigDict:
    """Return the configuration `glyphs`, `images` or `vit_l14`."""
    if name == "glyphs":
        return glyphs()
    if name == "images":
        return images()
    if name == "vit_l14":
        return vit_l14()
    raise ValueError(f"no pretraining configuration {name!r}; known are glyphs, images, vit_l14")


def glyphs() -> ConfigDict:
    """Make the small CLIP that ships with the package, from a procedural world, in under an hour on two cores."""
    config = _config()
    config.data.world = "glyphs"
    config.data.batch_size = 256
    config.data.caption_length = 20
    config.data.architecture = ConfigDict(
        {
            "image_size": 32,
            "patch_size": 8,
            "width": 192,
            "layers": 4,
            "heads": 3,
            "text_width": 128,
            "text_layers": 2,
            "text_heads": 2,
            "context_length": 32,
            "embed_dim": 128,
        }
    )
    config.steps = 4500
    config.optimizer.name = "muon"
    config.optimizer.lr = 1.5e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.warmup = 200
    config.optimizer.clip_norm = 1.0
    config.optimizer.decayed = r"(kernel|token_embedding)$"
    config.run.checkpoint_every = 250
    return config


def images() -> ConfigDict:
    """Pretrain a small CLIP on folders or tars of images with captions or class names; `data.sources` says which."""
    config = _config()
    config.data.caption_length = 20
    config.data.architecture = ConfigDict(
        {
            "image_size": 48,
            "patch_size": 8,
            "width": 192,
            "layers": 6,
            "heads": 3,
            "text_width": 192,
            "text_layers": 3,
            "text_heads": 3,
            "context_length": 32,
            "embed_dim": 256,
        }
    )
    # each part: images, rows of a batch, and captions (a file) or template (of class names)
    config.data.sources = ()
    config.equal_captions = "share"
    config.steps = 3000
    config.optimizer.lr = 1.2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.warmup = 100
    config.run.checkpoint_every = 500
    return config


def vit_l14() -> ConfigDict:
    """Pretrain ViT-L/14 on a pod with 32,768 pairs a step; `clipjax plan` tells what it takes."""
    config = _config()
    config.data.architecture = ConfigDict({"preset": "ViT-L/14"})
    config.data.batch_size = 32_768
    config.data.caption_length = 77
    config.data.sources = ()
    config.steps = 400_000
    config.dtype = "bfloat16"
    config.remat = "full"
    config.optimizer.lr = 4e-4
    config.optimizer.warmup = 2000
    config.run.data = 16
    config.run.fsdp = 16
    config.run.checkpoint_every = 2000
    return config


def _config() -> ConfigDict:
    config = ConfigDict()
    config.method = "pretrain"
    config.data = ConfigDict({"world": "images", "batch_size": 256, "seed": 0})
    config.steps = 10_000
    config.loss = "clip"
    config.equal_captions = "ignore"
    config.microbatches = 1
    config.dtype = "float32"
    config.remat = "dots"
    config.seed = 0
    config.optimizer = ConfigDict(
        {"name": "adamw", "lr": 5e-4, "weight_decay": 0.2, "warmup": 2000, "b2": 0.98, "eps": 1e-6}
    )
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 1000, "log_every": 50})
    return config
