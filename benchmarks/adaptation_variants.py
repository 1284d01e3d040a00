"""What the studies of `benchmarks.adaptation` compare: methods with settings, and how those were chosen."""

import dataclasses
from typing import Any

EPOCHS = 3.0
VIEW = {"crop": 0.9, "jitter": 0.8, "grayscale": 0.2}  # LatteCLIP's
FLYP = {"equal_labels": "negatives", "epochs": EPOCHS, "flip": 0.0, **VIEW}
LATTE = {"epochs": EPOCHS, **VIEW}
TOLD = {"texts": ["class", "image"], **LATTE}
COFT = {
    "contexts": 4,
    "visual_prompts": 8,
    "seeds_per_class": 64,
    "prompt_optimizer": {"lr": 1e-2},
    "tune_epochs": 3,
    "tune_optimizer": {"lr": 2e-2},
}
PLUS = {"rounds": 3, "contrast_weight": 0.1, **COFT}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A method with settings, and its name in a table. With `labels` it sees the true ones: a ceiling."""

    title: str
    method: str
    settings: dict[str, Any]
    labels: bool = False

    @property
    def reads_texts(self) -> bool:
        """Whether captions must have been written for the images."""
        return self.method == "latteclip" and not self.labels


def _threshold(value: float) -> Variant:
    title = f"CoFT, accepted where softmax is at least {value}"
    return Variant(title, "coft", {"validation": "confidence", "threshold": value, **COFT})


VARIANTS = {
    "zero_shot": Variant("zero-shot", "zero_shot", {}),
    "flyp": Variant("FLYP, zero-shot pseudo-labels", "finetune", {"labels": "pseudo", **FLYP}),
    "self_training": Variant("self-training, threshold", "self_training", {"epochs": EPOCHS, "flip": 0.0, **VIEW}),
    "upl": Variant("UPL", "upl", {"contexts": 4, "crop": 0.5}),
    "prototypes": Variant("prototypes alone, encoders frozen", "latteclip", {"trainable": ["^logit_scale$"], **LATTE}),
    "latteclip_1e-7": Variant("LatteCLIP, learning rate 1e-7 as published", "latteclip", LATTE),
    "latteclip": Variant("LatteCLIP", "latteclip", LATTE),
    "told": Variant("LatteCLIP, captions that name the true class", "latteclip", TOLD, labels=True),
    "oracle": Variant("FLYP, true labels: a ceiling", "finetune", {"labels": "given", **FLYP}, labels=True),
    "phase_one": Variant("CoFT, phase I alone", "coft", {"finetune": False, **COFT}),
    "unfiltered": Variant("CoFT, all pseudo-labels", "coft", {"validation": "none", **COFT}),
    "threshold_0.5": _threshold(0.5),
    "threshold_0.7": _threshold(0.7),
    "threshold_0.9": _threshold(0.9),
    "itself": Variant("CoFT, one model that checks itself", "coft", {"models": 1, "validation": "self", **COFT}),
    "coft": Variant("CoFT", "coft", COFT),
    "coft_plus": Variant("CoFT+, first labels by one template", "coft", PLUS),
}

_THRESHOLDS = ("threshold_0.5", "threshold_0.7", "threshold_0.9")
STUDIES = {
    "latteclip": (
        *("zero_shot", "flyp", "self_training", "upl"),
        *("prototypes", "latteclip_1e-7", "latteclip", "told", "oracle"),
    ),
    "coft": ("zero_shot", "upl", "phase_one", "unfiltered", *_THRESHOLDS, "itself", "coft", "coft_plus"),
}
"""The rows of each table."""

GRIDS = {
    "flyp": [f"optimizer.lr={lr}" for lr in ("3e-5", "1e-4", "3e-4", "1e-3")],
    "self_training": [
        *(f"optimizer.lr={lr} confidence={c}" for lr in ("3e-5", "1e-4", "3e-4") for c in (0.3, 0.5)),
        "optimizer.lr=1e-4 confidence=0.7",
    ],
    "upl": [f"optimizer.lr={lr} contexts={n}" for lr in ("2e-3", "1e-2") for n in (4, 8)],
    "latteclip": [f"optimizer.lr={lr}" for lr in ("3e-5", "1e-4", "3e-4")],
    "phase_one": [
        f"prompt_optimizer.lr={lr} seeds_per_class={n}" for lr, n in (("3e-2", 16), ("3e-3", 16), ("1e-2", 64))
    ],
    "coft": [
        *(f"tune_epochs={n} tune_optimizer.lr={lr}" for n in (3, 10) for lr in ("5e-3", "2e-2")),
        "tune_epochs=3 tune_optimizer.lr=5e-3 head_start=text",
    ],
}
"""What is tried on the development domain."""

CHOSEN = {
    "flyp": "optimizer.lr=3e-4",
    "self_training": "optimizer.lr=1e-4 confidence=0.5",
    "upl": "optimizer.lr=2e-3 contexts=8",
    "latteclip": "optimizer.lr=3e-4",
    "told": "optimizer.lr=3e-4",
    "oracle": "optimizer.lr=3e-4",
}
"""The best of each grid on the development domain; the ceiling is FLYP, too."""
