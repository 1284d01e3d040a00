"""clipjax doctor: does this installation work? For new users, and for bug reports."""

import argparse
import tempfile
from pathlib import Path

from clipjax.cli.options import add_json
from clipjax.progress import Progress, silent

PACKAGES = (
    "clipjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tensorflow-datasets", "grain",
    "safetensors", "numpy", "pillow", "scikit-learn",
)  # fmt: skip

FORMATS = ("openai-state-dict", "huggingface", "openclip", "orbax", "openai-state-dict")
"""The order in which a checkpoint is rewritten: from OpenAI's layout to each other one and back."""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check this installation: devices, versions, a round trip through every format",
        description="Build a small random CLIP, take it through every checkpoint format, and encode real images "
        "(scikit-learn's digits) after each step. Nothing may change.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import time

    from clipjax.cli.console import print_json, print_table, progress

    facts = machine()
    if not args.json:
        print_table("this machine", ["what", "value"], list(facts.items()), numeric=False)
    start = time.perf_counter()
    rows = round_trip(progress)
    healthy = all(row["largest_change"] == 0 for row in rows)
    if args.json:
        print_json({"machine": facts, "steps": rows, "healthy": healthy})
        return 0 if healthy else 1
    columns = ["step", "images", "texts", "largest change", "top-1 agreement"]
    table = [
        (r["step"], r["images"], r["texts"], f"{r['largest_change']:.1e}", f"{100 * r['agreement']:.0f} %")
        for r in rows
    ]
    print_table("a small random CLIP on real digits, through every format", columns, table)
    verdict = "all is well: nothing changed" if healthy else "something changed: please report this output"
    print(f"{verdict} ({time.perf_counter() - start:.0f} s)")
    return 0 if healthy else 1


def machine() -> dict[str, str]:
    """Collect what a bug report needs to say."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import jax

    facts = {"python": platform.python_version(), "system": platform.platform()}
    facts["devices"] = ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices())
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "missing"
    return facts


def round_trip(progress: Progress = silent) -> list[dict]:
    """Write, read and convert a small random CLIP, and compare its logits on real images after each step."""
    import jax
    import numpy as np

    from clipjax.inputs.tokenizer import tokenize
    from clipjax.models.clip import CLIP
    from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
    from clipjax.weights.load import load
    from clipjax.weights.save import save

    vision = ViTConfig(image_size=32, patch_size=8, width=64, layers=2, heads=1, mlp_width=256)
    text = TextConfig(vocab_size=49408, context_length=77, width=64, layers=2, heads=1, mlp_width=256)
    model = CLIP(CLIPConfig(vision, text, embed_dim=64))
    params = jax.jit(model.init)(jax.random.key(0))
    pixels, names = digits(model.config.image_size), "zero one two three four five six seven eight nine"
    tokens = tokenize([f"a photo of the number {name}." for name in names.split()])
    first = np.asarray(model.logits(params, pixels, tokens))
    rows = [_row("built at random", first, first)]
    with tempfile.TemporaryDirectory(prefix="clipjax-doctor-") as folder:
        for format in progress(FORMATS, total=len(FORMATS), label="checking formats", unit="formats"):
            place = Path(folder) / f"{len(rows)}"
            save(place, model, params, format)
            model, params = load(place)
            rows.append(_row(f"through {format}", np.asarray(model.logits(params, pixels, tokens)), first))
    return rows


def digits(size: int):
    """Prepare the 1,797 handwritten digits inside scikit-learn as a checkpoint's images."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    from clipjax.inputs.image import preprocess

    flat, _ = load_digits(return_X_y=True)
    grey = (np.asarray(flat).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return np.stack([preprocess(Image.fromarray(image), size) for image in grey])


def _row(step: str, logits, first) -> dict:
    return {
        "step": step,
        "images": logits.shape[0],
        "texts": logits.shape[1],
        "largest_change": float(abs(logits - first).max()),
        "agreement": float((logits.argmax(1) == first.argmax(1)).mean()),
    }
