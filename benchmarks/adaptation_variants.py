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
    "phase_one": [f"seeds_per_class={n}" for n in (16, 32, 64)],
    "coft": [f"tune_optimizer.lr={lr}" for lr in ("5e-4", "2e-3", "5e-3", "1e-2")],
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
