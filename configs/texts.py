"""Texts about images and classes: what is asked, of whom.

    clipjax texts generate --config=configs/texts.py:captions --set images=photos --store texts.jsonl
    clipjax texts generate --config=configs/texts.py:latteclip --set dataset=eurosat --set images=eurosat \
        --set classes=classes.txt --set weights=ViT-B-32.pt --set writer=chat \
        --set chat.url=http://127.0.0.1:8000/v1 --set chat.model=llava-v1.6-34b --store texts.jsonl
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

ASKED = {
    "captions": ("image-caption",),
    "latteclip": ("image-caption", "group-caption"),
    "descriptions": ("descriptions",),
    "templates": ("templates",),
    "differences": ("difference-of-captions",),
    "differences-of-images": ("difference-of-images",),
    "rewrites": ("rewrite",),
}


def get_config(asked: str = "captions") -> ConfigDict:
    """Return the settings that ask for one kind of texts; see ASKED."""
    if asked not in ASKED:
        raise ValueError(f"nothing to ask is called {asked!r}; known are {', '.join(ASKED)}")
    config = ConfigDict()
    config.ask = ASKED[asked]
    config.dataset = "default"
    config.prompts = placeholder(str)
    config.images = placeholder(str)
    config.split = placeholder(str)
    config.where = ()
    config.splits_file = placeholder(str)
    config.captions = placeholder(str)
    config.classes = placeholder(str)
    config.template = ()
    config.weights = placeholder(str)
    config.samples = 10
    config.group_size = 4
    config.pairs = 1000
    config.pair_images = placeholder(int)
    config.hard_pairs = False
    config.seed = 0
    config.skip_bad = False
    config.writer = "grammar"
    config.chat = ConfigDict({"url": placeholder(str), "model": placeholder(str), "temperature": 0.0, "max_tokens": 77})
    config.chat.concurrency = 16
    config.local = ConfigDict({"path": placeholder(str), "temperature": 0.0, "max_tokens": 77, "batch_size": 8})
    config.retrieval = ConfigDict({"weights": placeholder(str), "phrases": placeholder(str)})
    config.grammar = ConfigDict({"attributes": placeholder(str), "images": placeholder(str), "aspects": ()})
    config.files = ConfigDict({"path": placeholder(str)})
    config.budget = ConfigDict({"requests": placeholder(int), "tokens": placeholder(int)})
    return config
