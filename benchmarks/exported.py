"""Does an exported classifier predict the same in transformers as in clipjax, on real images?

    python -m benchmarks.exported                       # zero-shot on 1,000 EuroSAT images of the testbed
    python -m benchmarks.exported --run RUN             # what `clipjax adapt` made, on the same images
    python -m benchmarks.exported --run RUN --images photos/ --count 200

Each side reads the image files and prepares them itself. Cosines of images and class weights must differ by 1e-5 at
most, for heads on pooled features, which have none, scores in units of their largest; and the best class must be the
same wherever the first two differ by more. The exit status tells. Needs torch (extra `parity`) and flatbuffers (extra
`export`); the StableHLO artefact is compared, too.
"""

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.needs import require
from benchmarks.testbed_domains import open_domain
from benchmarks.timing import machine
from clipjax.classify.arrays import score_pixels
from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.export import Facts, export_directory, export_stablehlo
from clipjax.classify.export.standalone import load as load_artefact
from clipjax.classify.export.standalone import pixels_of
from clipjax.classify.saved import load_classifier
from clipjax.data.opening import open_source
from clipjax.inputs.image import crop_uint8
from clipjax.inputs.tokenizer import load_tokenizer

TOLERANCE = 1e-5
BATCH = 50


def main() -> None:
    args = _parser().parse_args()
    require("torch", "flatbuffers", *(() if args.run and args.images else ("testbed",)))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        classifier, tokenizer, source = _opened(args, work)
        rows = np.linspace(0, len(source) - 1, min(args.count, len(source))).astype(int)
        files = [source.read(int(row)) for row in rows]
        ours = by_clipjax(classifier, files)
        export_directory(work / "torch", classifier, tokenizer, "huggingface", Facts())
        export_stablehlo(work / "program", classifier, Facts())
        sides = {
            "transformers": by_transformers(work / "torch", files),
            "stablehlo": by_program(work / "program", files),
        }
    members = classifier.members if isinstance(classifier, Ensemble) else (classifier,)
    found = {name: compared(ours, theirs, members) for name, theirs in sides.items()}
    print(json.dumps({"images": len(files), "source": Path(source.name).name, **found, "machine": machine()}))
    if not all(one["same"] for one in found.values()):
        sys.exit(1)


def by_clipjax(classifier: Classifier | Ensemble, files: list[bytes]) -> list[np.ndarray]:
    """Return each member's scores."""
    config = classifier.model.config
    members = classifier.members if isinstance(classifier, Ensemble) else (classifier,)
    cut = lambda data: crop_uint8(Image.open(io.BytesIO(data)), config.image_size, config.preprocessing)
    batches = [np.stack([cut(data) for data in part]) for part in _batches(files)]
    return [np.concatenate([np.asarray(score_pixels(member, batch)) for batch in batches]) for member in members]


def by_transformers(folder: Path, files: list[bytes]) -> list[np.ndarray]:
    """Do what the model card says, for many images at once."""
    import torch
    from safetensors.torch import load_file
    from transformers import CLIPImageProcessorPil, CLIPModel

    scores = []
    for place in sorted(folder.glob("model-*")) or [folder]:
        model, head = CLIPModel.from_pretrained(place).eval(), load_file(place / "classifier.safetensors")
        processor = CLIPImageProcessorPil.from_pretrained(place)
        pooled = head["weights"].shape[1] != model.config.projection_dim or "normalize(" not in _card(folder)
        parts = []
        for part in _batches(files):
            pixels = processor([Image.open(io.BytesIO(data)) for data in part], return_tensors="pt").pixel_values
            with torch.no_grad():
                image = model.vision_model(pixels).pooler_output
                if not pooled:
                    image = torch.nn.functional.normalize(model.visual_projection(image))
                parts.append((head["scale"] * image @ head["weights"].T + head["bias"]).numpy())
        scores.append(np.concatenate(parts))
    return scores


def by_program(folder: Path, files: list[bytes]) -> list[np.ndarray]:
    """Run the artefact, which has the vote of an ensemble in it."""
    classify, settings = load_artefact(folder)
    pixels = [np.stack([pixels_of(io.BytesIO(data), settings) for data in part]) for part in _batches(files)]  # pyright: ignore
    return [np.concatenate([classify(batch) for batch in pixels])]


def compared(ours: list[np.ndarray], theirs: list[np.ndarray], members: tuple[Classifier, ...]) -> dict[str, Any]:
    """Compare scores, in cosines, and the best classes; one side may have the members' vote only."""
    if len(theirs) < len(ours):
        ours, units = [_vote(ours)], [1.0]
    else:
        units = [_unit(member, scores) for member, scores in zip(members, ours)]
    largest, differ, close = 0.0, 0, 0
    for mine, other, unit in zip(ours, theirs, units, strict=True):
        largest = max(largest, float(np.abs(mine - other).max() / unit))
        ordered = np.sort(mine, axis=1)
        apart = (ordered[:, -1] - ordered[:, -2]) / unit > TOLERANCE
        differ += int((mine.argmax(1) != other.argmax(1))[apart].sum())
        close += int((~apart).sum())
    return {
        "largest_difference": largest,
        "other_best_class": differ,
        "too_close_to_tell": close,
        "same": largest <= TOLERANCE and not differ,
    }


def _unit(member: Classifier, scores: np.ndarray) -> float:
    """The score of a cosine of one; of a linear head the largest score."""
    if member.features == "pooled":
        return float(np.abs(scores).max())
    return float(np.exp(np.asarray(member.params["logit_scale"], np.float64)))


def _vote(scores: list[np.ndarray]) -> np.ndarray:
    wide = np.stack(scores).astype(np.float64)
    powers = np.exp(wide - wide.max(2, keepdims=True))
    return np.log((powers / powers.sum(2, keepdims=True)).mean(0))


def _card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def _batches(files: list[bytes]) -> list[list[bytes]]:
    return [files[start : start + BATCH] for start in range(0, len(files), BATCH)]


def _opened(args: argparse.Namespace, work: Path):
    if args.run is None:
        opened = open_domain("eurosat", work, texts=False)
        problem = opened.problem
        assert opened.test is not None
        return problem.zero_shot, problem.tokenizer, opened.test
    model = Path(args.run) / "model"
    source = open_source(args.images) if args.images else open_domain("eurosat", work, texts=False).test
    return load_classifier(model), load_tokenizer(model), source


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", metavar="RUN", help="a run of `clipjax adapt` (default: the testbed's zero-shot)")
    parser.add_argument("--images", metavar="PATH", help="image files (default: the testbed's EuroSAT test images)")
    parser.add_argument("--count", type=int, default=1000, help="so many, evenly spread (default: 1000)")
    return parser


if __name__ == "__main__":
    main()
