"""Every method and baseline on the same problems and seeds.

    clipjax compare --config=configs/compare.py:testbed --workdir=comparison
    clipjax compare --config=configs/compare.py --workdir=comparison --set problems.mine.weights=ViT-B-32.pt \
        --set problems.mine.images=photos/ --set problems.mine.classes=classes.txt --set problems.mine.test=labelled/

Methods have their own defaults, for models of the size that was published, but that `finetune`, `self_training`,
`latteclip` and CoFT's second phase have as many epochs: ten, and three for the testbed. `testbed` are domains of the
data that the tests use, found by CLIPJAX_TEST_DATA, with settings for its small CLIP that were chosen on PACS art
paintings (docs/methods/latteclip.md, docs/methods/coft.md), which is not among them. Rows with shots are run on
problems that say `labelled=true`, each seed with other shots. A registered method that has no row here gets one with
its defaults.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

SHOTS = {"shots": 16}
# a row is left out where a problem lacks the store that `texts` names; `problem` changes the problem
ROWS = {
    "zero_shot": {"method": "zero_shot"},
    "finetune": {"method": "finetune", "settings": {"labels": "pseudo"}},
    "self_training": {"method": "self_training"},
    "upl": {"method": "upl"},
    "latteclip": {"method": "latteclip", "texts": "texts"},
    "coft": {"method": "coft"},
    "coft_plus": {"method": "coft", "settings": {"rounds": 3, "contrast_weight": 0.1}},
    "pcclip": {"method": "pcclip", "texts": "differences"},
    "descriptions": {"method": "descriptions", "texts": "class_descriptions"},
    "linear_probe_16": {"method": "linear_probe", "problem": SHOTS},
    "tip_adapter_16": {"method": "tip_adapter", "problem": SHOTS},
    "tip_adapter_f_16": {"method": "tip_adapter", "problem": SHOTS, "settings": {"finetune": True}},
    "clip_adapter_16": {"method": "clip_adapter", "problem": SHOTS},
    "coop_16": {"method": "coop", "problem": SHOTS, "settings": {"contexts": 4, "words": "a photo of a"}},
    "kgcoop_16": {"method": "kgcoop", "problem": SHOTS},
    "cocoop_16": {"method": "cocoop", "problem": SHOTS},
    "aape_16": {"method": "aape", "problem": SHOTS, "texts": "class_descriptions"},
    "finetune_16": {"method": "finetune", "problem": SHOTS},
}

VIEW = {"crop": 0.9, "jitter": 0.8, "grayscale": 0.2}
VIEWS = {"views": {"count": 8, "crop": 0.5, "flip": 0.5}}
COFT = {
    "contexts": 4,
    "visual_prompts": 8,
    "seeds_per_class": 64,
    "prompt_optimizer": {"lr": 1e-2},
    "tune_optimizer": {"lr": 2e-2},
}
TESTBED = {
    "finetune": {**VIEW, "equal_labels": "negatives", "flip": 0.0, "optimizer": {"lr": 3e-4}},
    "self_training": {**VIEW, "flip": 0.0, "confidence": 0.5, "optimizer": {"lr": 1e-4}},
    "upl": {"contexts": 8, "crop": 0.5},
    "latteclip": {**VIEW, "optimizer": {"lr": 3e-4}},
    **dict.fromkeys(("coft", "coft_plus"), COFT),
    **dict.fromkeys(("clip_adapter_16", "coop_16", "kgcoop_16", "cocoop_16", "aape_16"), VIEWS),
    "finetune_16": {**VIEW, "flip": 0.0, "optimizer": {"lr": 3e-4}},
}
"""The settings of rows for the testbed's small CLIP."""


def get_config(name: str = "") -> ConfigDict:
    """Return the comparison of this name, or one without problems."""
    if name not in ("", "testbed"):
        raise ValueError(f"no comparison {name!r}; known are testbed and none")
    config = ConfigDict()
    config.problems = _testbed() if name else {}
    config.rows = _rows(TESTBED, epochs=3.0) if name else _rows({}, epochs=10.0)
    config.seeds = (1, 2, 3)
    config.run = ConfigDict({"checkpoint_every": 500})
    return config


def _rows(settings: dict, epochs: float) -> dict:
    towers = {
        **{row: {"epochs": epochs} for row in ("finetune", "self_training", "latteclip")},
        **{row: {"tune_epochs": epochs} for row in ("coft", "coft_plus")},
    }
    return {
        name: {**row, "settings": {**row.get("settings", {}), **settings.get(name, {}), **towers.get(name, {})}}
        for name, row in ROWS.items()
    }


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
