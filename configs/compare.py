"""Every method and baseline on the same problems, seeds and epochs.

    clipjax compare --config=configs/compare.py:testbed --workdir=comparison
    clipjax compare --config=configs/compare.py --workdir=comparison --set problems.mine.weights=ViT-B-32.pt \
        --set problems.mine.images=photos/ --set problems.mine.classes=classes.txt --set problems.mine.test=labelled/

`testbed` are domains of the data that the tests use, found by CLIPJAX_TEST_DATA. Settings were chosen on PACS art
paintings (docs/methods/latteclip.md, docs/methods/coft.md), which is not among them. Rows with shots are run on
problems that say `labelled=true`, each seed with other shots. A registered method that has no row here gets one with
its defaults.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

EPOCHS = 3.0
VIEW = {"crop": 0.9, "jitter": 0.8, "grayscale": 0.2}
VIEWS = {"count": 8, "crop": 0.5, "flip": 0.5}
COFT = {
    "contexts": 4,
    "visual_prompts": 8,
    "seeds_per_class": 64,
    "prompt_optimizer": {"lr": 1e-2},
    "tune_epochs": EPOCHS,
    "tune_optimizer": {"lr": 2e-2},
}
SHOTS = {"shots": 16}
# a row is left out where a problem lacks the store that `texts` names; `problem` changes the problem
ROWS = {
    "zero_shot": {"method": "zero_shot"},
    "finetune": {
        "method": "finetune",
        "settings": {
            **VIEW, "labels": "pseudo", "equal_labels": "negatives", "epochs": EPOCHS, "flip": 0.0,
            "optimizer": {"lr": 3e-4},
        },
    },
    "self_training": {
        "method": "self_training",
        "settings": {**VIEW, "epochs": EPOCHS, "flip": 0.0, "confidence": 0.5, "optimizer": {"lr": 1e-4}},
    },
    "upl": {"method": "upl", "settings": {"contexts": 8, "crop": 0.5, "optimizer": {"lr": 2e-3}}},
    "latteclip": {
        "method": "latteclip", "texts": "texts", "settings": {**VIEW, "epochs": EPOCHS, "optimizer": {"lr": 3e-4}}
    },
    "coft": {"method": "coft", "settings": COFT},
    "coft_plus": {"method": "coft", "settings": {**COFT, "rounds": 3, "contrast_weight": 0.1}},
    "pcclip": {"method": "pcclip", "texts": "differences", "settings": {}},
    "descriptions": {"method": "descriptions", "texts": "class_descriptions"},
    "linear_probe_16": {"method": "linear_probe", "problem": SHOTS},
    "tip_adapter_16": {"method": "tip_adapter", "problem": SHOTS},
    "tip_adapter_f_16": {"method": "tip_adapter", "problem": SHOTS, "settings": {"finetune": True}},
    "clip_adapter_16": {"method": "clip_adapter", "problem": SHOTS, "settings": {"views": VIEWS}},
    "coop_16": {
        "method": "coop", "problem": SHOTS, "settings": {"contexts": 4, "words": "a photo of a", "views": VIEWS}
    },
    "kgcoop_16": {"method": "kgcoop", "problem": SHOTS, "settings": {"views": VIEWS}},
    "cocoop_16": {"method": "cocoop", "problem": SHOTS, "settings": {"views": VIEWS}},
    "aape_16": {
        "method": "aape", "problem": SHOTS, "texts": "class_descriptions", "settings": {"views": VIEWS}
    },
    "finetune_16": {
        "method": "finetune", "problem": SHOTS, "settings": {**VIEW, "flip": 0.0, "optimizer": {"lr": 3e-4}}
    },
}  # fmt: skip


def get_config(name: str = "") -> ConfigDict:
    """Return the comparison of this name, or one without problems."""
    if name not in ("", "testbed"):
        raise ValueError(f"no comparison {name!r}; known are testbed and none")
    config = ConfigDict()
    config.problems = _testbed() if name else {}
    config.rows = ROWS
    config.seeds = (1, 2, 3)
    config.run = ConfigDict({"checkpoint_every": 500})
    return config


def _testbed() -> dict:
    data = Path(os.environ.get("CLIPJAX_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))
    domains = {"eurosat": ("eurosat", ()), "pacs_cartoon": ("pacs", ("extra=cartoon",))}
    return {
        name: {
            "weights": str(data / "testbed"),
            "images": str(data / "data" / "images" / f"{classes}.tar"),
            "classes": f"{data / 'testbed' / 'classes.json'}:{classes}",
            "where": ("testbed=target-train", *where),
            "test_where": ("testbed=target-test", *where),
            "by_position": True,
            "labelled": True,
            # stores of `clipjax texts`; give them with --set problems.eurosat.texts=STORE
            "texts": None,
            "differences": None,
            "class_descriptions": None,
        }
        for name, (classes, where) in domains.items()
    }
