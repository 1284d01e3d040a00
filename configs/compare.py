"""Every method and baseline on the same problems, seeds and epochs.

    clipjax compare --config=configs/compare.py:testbed --workdir=comparison
    clipjax compare --config=configs/compare.py --workdir=comparison --set problems.mine.weights=ViT-B-32.pt \
        --set problems.mine.images=photos/ --set problems.mine.classes=classes.txt --set problems.mine.test=labelled/

`testbed` are domains of the data that the tests use, found by CLIPJAX_TEST_DATA. Settings were chosen on PACS art
paintings (docs/methods/latteclip.md, docs/methods/coft.md), which is not among them. A registered method that has no
row here gets one with its defaults.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

EPOCHS = 3.0
VIEW = {"crop": 0.9, "jitter": 0.8, "grayscale": 0.2}
COFT = {
    "contexts": 4,
    "visual_prompts": 8,
    "seeds_per_class": 64,
    "prompt_optimizer": {"lr": 1e-2},
    "tune_optimizer": {"lr": 2e-2},
}
# `texts` are left out where a problem has none, and the row with them; `problem` changes the problem, for a ceiling
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
    "linear_probe_16": {"method": "linear_probe", "problem": {"shots": 16}},
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
            # stores of `clipjax texts generate`; give them with --set problems.eurosat.texts=STORE
            "texts": None,
            "differences": None,
        }
        for name, (classes, where) in domains.items()
    }
