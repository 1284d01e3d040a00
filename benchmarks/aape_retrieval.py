"""AAPE's queries among captions: h(x) in place of an image's embedding x, on Flickr8k with the testbed CLIP.

    python -m benchmarks.aape_retrieval --work few

Measured are 500 photographs that the testbed CLIP was not trained on, against their 2,500 captions. h learns from 500
others that it was not trained on ("unseen"), or from 1,000 that it was ("seen"), whose embeddings fit their captions
better than those of new images do. "literal" is h(x) itself, "residual" is x + alpha h(x). Settings are the method's
but for batches of 256 and more epochs, since there are so few images; nothing was chosen on what is measured.
Embeddings and results stay in WORK, a result is a line of WORK/retrieval.jsonl, and a repeated command goes on.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.needs import DATA, require
from benchmarks.study_results import note, noted
from benchmarks.timing import machine
from clipjax.classify.embed import embed_texts
from clipjax.data.captions import captions_for, read_captions
from clipjax.data.opening import open_source
from clipjax.data.views import eval_view
from clipjax.evaluation.retrieval import recall_at_k
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.methods.aape.retrieval import QueryConfig, learn_queries, queries
from clipjax.methods.cached_shots import Descriptions, padded
from clipjax.training.fit import Pace
from clipjax.training.run import Run
from clipjax.weights.fingerprint import fingerprint
from clipjax.weights.load import load

PARTS = {
    "seen": ("pretrain", slice(None)),
    "unseen": ("heldout-test", slice(0, 500)),
    "test": ("heldout-test", slice(500, 1000)),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "literal": {"form": "literal"},
    "literal, not distilled": {"form": "literal", "weight": 0.0},
    "residual": {"form": "residual"},
    "residual, not distilled": {"form": "residual", "weight": 0.0},
}
RANKS = (1, 5, 10)


def main() -> None:
    args = _parser().parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    test = embedded("test", work)
    shown = {"x": [recalls(test[0], test[1])]}
    for part in args.learn:
        images, captions = embedded(part, work)
        images, captions = images[: args.images], captions.select(np.arange(len(images))[: args.images])
        for title, settings in VARIANTS.items():
            found = []
            for seed in args.seeds:
                config = QueryConfig(**settings, epochs=args.epochs, batch_size=256, seed=seed)
                found.append(result(work / "retrieval.jsonl", part, images, captions, config, test))
            shown[f"{title}, learnt from {part}"] = found
    print(table(shown))
    print(json.dumps(machine()))


def result(
    path: Path,
    part: str,
    images: np.ndarray,
    captions: Descriptions,
    config: QueryConfig,
    test: tuple[np.ndarray, Descriptions],
) -> dict[str, Any]:
    """Learn queries and measure them, or read what was measured before."""
    key = f"{part} {len(images)} {config!r}"
    known = [found for found in noted(path) if found["key"] == key]
    if known:
        return known[-1]
    start = time.monotonic()
    generator = learn_queries(images, captions, config, Run(pace=Pace(log_every=100_000)))
    found = recalls(np.asarray(queries(generator, test[0])), test[1])
    about: dict[str, Any] = {"learn": part, "images": len(images), "form": config.form, "seed": config.seed, "key": key}
    if "alpha" in generator:
        about["alpha"] = round(float(generator["alpha"]), 3)
    about |= {**found, "seconds": round(time.monotonic() - start, 1)}
    note(path, about)
    return about


def embedded(part: str, work: Path) -> tuple[np.ndarray, Descriptions]:
    """Embed a part's images and their captions, once."""
    require("testbed")
    model, params = load(DATA / "testbed")
    tokenizer = load_tokenizer(DATA / "testbed")
    where, places = PARTS[part]
    source = open_source(DATA / "data/images/flickr8k.tar", where={"testbed": where})
    source = source.select(np.arange(len(source))[places])
    run, clip = Run(folder=work / "embedded" / f"flickr8k_{part}"), model.config
    view = eval_view(clip.image_size, clip.mean, clip.std, clip.preprocessing)
    weights = f"{fingerprint(params)} {model!r}"
    images = run.embed(source, lambda pixels: model.encode_image(params, pixels), view, weights=weights)
    written = read_captions(DATA / "data/texts/captions/flickr8k_captions_all40455.csv")
    texts, owners = captions_for(source, written)
    embed = lambda: {"rows": embed_texts(model, params, tokenizer, texts)}
    rows = run.once("captions", embed, depends=(weights, texts))["rows"]
    return unit(images), padded(unit(rows), np.bincount(owners).tolist())


def recalls(rows: np.ndarray, captions: Descriptions) -> dict[str, float]:
    """Measure in how many per cent one of an image's captions is among the first."""
    owners = np.repeat(np.arange(len(captions.rows)), captions.present.sum(1))
    similarity = rows @ captions.rows[captions.present].T
    return {f"R@{k}": round(100 * recall_at_k(similarity, owners, k)[0], 2) for k in RANKS}


def table(shown: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write means and standard deviations over seeds as Markdown."""
    names = [f"R@{k}" for k in RANKS]
    lines = ["| query | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, found in shown.items():
        columns = [[one[name] for one in found] for name in names]
        spread = lambda values: f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells = [f"{statistics.mean(values):.1f}{spread(values)}" for values in columns]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="few", metavar="DIR", help="embeddings and results")
    parser.add_argument("--learn", nargs="+", default=["unseen", "seen"], choices=("unseen", "seen"))
    parser.add_argument("--images", type=int, help="learn from so many alone, to try the program out")
    parser.add_argument("--epochs", type=float, default=300.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    return parser


if __name__ == "__main__":
    main()
