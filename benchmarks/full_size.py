"""Published architectures at full size, random weights: clipjax against PyTorch, in both directions.

    python -m benchmarks.full_size --models ViT-B/32 ViT-L/14@336 RN50 RN50x4 laion/ViT-H-14

Vision transformers are compared with transformers' CLIPModel, through Hugging Face directories, and
through OpenAI's state dicts and OpenCLIP's directories whose tensors PyTorch wrote
(`benchmarks.openai_layout`); what clipjax writes in these layouts must hold the same bits. ResNets
are compared with `benchmarks.openai_torch` through OpenAI's state dicts. Prints one JSON line for
each model with the largest errors relative to the largest number, and how much the embeddings of
two inputs differ in the same measure; exits 1 where an error exceeds 1e-4.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import clipjax
from benchmarks.memory import PeakMemory
from benchmarks.needs import require
from benchmarks.peers import random_clip, relative_difference, torch_threads
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import CLIPConfig, ResNetConfig
from clipjax.models.presets import PRESETS

TOLERANCE = 1e-4
MODELS = ("ViT-B/32", "ViT-L/14@336", "RN50", "RN50x4", "laion/ViT-H-14")

Outputs = dict[str, Any]
Errors = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=tuple(PRESETS), metavar="NAME")
    args = parser.parse_args()
    require("torch")
    passed = True
    # a process for each model gives all memory back before the next
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for report in pool.map(check, args.models):
            print(json.dumps(report), flush=True)
            passed &= report["passed"]
    return 0 if passed else 1


def check(name: str) -> dict[str, Any]:
    """Compare one model in both directions and describe the result."""
    jax.config.update("jax_default_matmul_precision", "highest")
    torch_threads()
    compare = compare_resnet if isinstance(PRESETS[name].vision, ResNetConfig) else compare_vision_transformer
    start = time.perf_counter()
    with PeakMemory() as memory, tempfile.TemporaryDirectory() as folder:
        errors, contrast = compare(name, Path(folder))
    return {
        "benchmark": "full_size",
        "model": name,
        "errors": {way: {key: float(f"{e:.1e}") for key, e in found.items()} for way, found in errors.items()},
        "contrast": {key: round(value, 3) for key, value in contrast.items()},
        "passed": all(error <= TOLERANCE for found in errors.values() for error in found.values()),
        "seconds": round(time.perf_counter() - start, 1),
        "peak_gib": round(memory.peak / 2**30, 2),
    }


def compare_vision_transformer(name: str, folder: Path) -> tuple[dict[str, Errors], Errors]:
    """Take random weights to transformers and back."""
    import torch
    from transformers import CLIPModel

    from benchmarks.openai_layout import openai_layout

    model, params = random_clip(name)
    params = trained_looking(params)
    images, tokens = inputs(model.config)
    clipjax.save(folder / "ours", model, params)
    ours = outputs(model, params, images, tokens)
    del params
    peer, faults = CLIPModel.from_pretrained(folder / "ours", dtype=torch.float32, output_loading_info=True)
    if any(faults.values()):
        raise SystemExit(f"{name}: transformers complains about what clipjax wrote: {faults}")
    peer.eval()
    theirs = transformers_outputs(peer, images, tokens)
    peer.save_pretrained(folder / "theirs")
    torch.save(openai_layout(peer.state_dict()), folder / "openai.pt")
    del peer
    found = {"clipjax to transformers": errors(ours, theirs)}
    model, params = clipjax.load(folder / "theirs")
    found["transformers to clipjax"] = errors(outputs(model, params, images, tokens), theirs)
    found |= through_openai_names(model, params, folder, images, tokens, theirs)
    return found, contrast(theirs)


def through_openai_names(
    model: CLIP, params: Params, folder: Path, images: np.ndarray, tokens: np.ndarray, theirs: Outputs
) -> dict[str, Errors]:
    """Compare what clipjax writes and reads in OpenAI's and OpenCLIP's layouts with what PyTorch wrote, `openai.pt`."""
    import torch
    from safetensors.torch import load_file, save_file

    expected = torch.load(folder / "openai.pt", weights_only=True, mmap=True)
    ways = [("openclip to clipjax", "openclip")]
    if model.config.text is not None and model.config.text.activation == "quick_gelu":
        # a state dict has no configuration, so that only models of OpenAI's own rules have one
        ways.append(("openai names to clipjax", "openai.pt"))
        clipjax.save(folder / "written.pt", model, params, format="openai-state-dict")
        require_same_bits(torch.load(folder / "written.pt", weights_only=True, mmap=True), expected)
        (folder / "written.pt").unlink()
    clipjax.save(folder / "openclip", model, params, format="openclip")
    del params
    weights = folder / "openclip/open_clip_model.safetensors"
    require_same_bits(load_file(weights), expected)
    save_file(expected, weights)  # the configuration stays clipjax's, the tensors are PyTorch's
    del expected
    found = {}
    for way, path in ways:
        loaded, params = clipjax.load(folder / path)
        found[way] = errors(outputs(loaded, params, images, tokens), theirs)
        del params
    return found


def require_same_bits(written: dict[str, Any], expected: dict[str, Any]) -> None:
    """End with the first tensor that clipjax wrote otherwise than PyTorch."""
    for name in sorted(written.keys() | expected.keys()):
        if name not in written or name not in expected or not written[name].equal(expected[name]):
            raise SystemExit(f"{name}: clipjax and PyTorch disagree about this tensor")


def compare_resnet(name: str, folder: Path) -> tuple[dict[str, Errors], Errors]:
    """Take random weights to PyTorch, and others, in float16 as OpenAI publishes them, from there."""
    import torch

    from benchmarks.openai_torch import OpenAIResNetCLIP, as_published

    model, params = random_clip(name)
    params = trained_looking(params)
    images, tokens = inputs(model.config)
    clipjax.save(folder / "ours.pt", model, params, format="openai-state-dict")
    peer = OpenAIResNetCLIP(model.config).eval()
    peer.load_state_dict(torch.load(folder / "ours.pt", weights_only=True), strict=True)
    there = errors(outputs(model, params, images, tokens), torch_outputs(peer, images, tokens))

    _, params = random_clip(name, seed=1)
    clipjax.save(folder / "other.pt", model, trained_looking(params, seed=1), format="openai-state-dict")
    del params
    peer.load_state_dict(torch.load(folder / "other.pt", weights_only=True), strict=True)
    published = as_published(peer.state_dict())
    torch.save(published, folder / "theirs.pt")
    peer.load_state_dict(published, strict=True)
    loaded, params = clipjax.load(folder / "theirs.pt")
    theirs = torch_outputs(peer, images, tokens)
    back = errors(outputs(loaded, params, images, tokens), theirs)
    return {"clipjax to torch": there, "torch float16 to clipjax": back}, contrast(theirs)


def trained_looking(params: Params, seed: int = 0) -> Params:
    """Give norms, biases and batch-norm statistics, which begin as ones and zeros, numbers of their own."""
    random = np.random.default_rng(seed)

    def vary(path: tuple, leaf: jax.Array) -> jax.Array:
        name = path[-1].key
        if name in ("bias", "mean"):
            return leaf + 0.1 * random.standard_normal(leaf.shape, np.float32)
        if name in ("scale", "var"):
            return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        return leaf

    return jax.tree_util.tree_map_with_path(vary, params)


def inputs(config: CLIPConfig) -> tuple[np.ndarray, np.ndarray]:
    """Two random images and three texts of different lengths, padded with zeros."""
    random = np.random.default_rng(0)
    text, side = config.text, config.image_size
    assert text is not None
    # large fields of colour under the noise: a deep random network averages noise alone away
    colours = 2 * random.standard_normal((2, 2, 2, 3), np.float32)
    images = np.kron(colours, np.ones((1, side // 2, side // 2, 1), np.float32))
    images += random.standard_normal(images.shape, np.float32)
    tokens = np.zeros((3, text.context_length), np.int32)
    for row, length in zip(tokens, (5, 20, text.context_length)):
        row[:length] = random.integers(1, text.bos_token_id, length)
        row[0], row[length - 1] = text.bos_token_id, text.eos_token_id
    return images, tokens


def outputs(model: CLIP, params: Params, images: np.ndarray, tokens: np.ndarray) -> Outputs:
    """Compute what is compared, in clipjax."""
    image, text = jnp.asarray(images), jnp.asarray(tokens)
    return {
        "image": model.encode_image(params, image),
        "text": model.encode_text(params, text),
        "logits": model.logits(params, image, text),
    }


def transformers_outputs(peer: Any, images: np.ndarray, tokens: np.ndarray) -> Outputs:
    """Compute what is compared, in transformers."""
    import torch

    pixels, ids = torch_inputs(images, tokens)
    with torch.inference_mode():
        return {
            "image": peer.get_image_features(pixel_values=pixels).pooler_output,
            "text": peer.get_text_features(input_ids=ids).pooler_output,
            "logits": peer(pixel_values=pixels, input_ids=ids).logits_per_image,
        }


def torch_outputs(peer: Any, images: np.ndarray, tokens: np.ndarray) -> Outputs:
    """Compute what is compared, in `OpenAIResNetCLIP`."""
    import torch

    pixels, ids = torch_inputs(images, tokens)
    with torch.inference_mode():
        return {
            "image": peer.encode_image(pixels),
            "text": peer.encode_text(ids),
            "logits": peer.logits(pixels, ids),
        }


def torch_inputs(images: np.ndarray, tokens: np.ndarray) -> tuple[Any, Any]:
    """Return pixels as PyTorch wants them, [B, 3, H, W], and ids."""
    import torch

    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(tokens).long()


def errors(ours: Outputs, theirs: Outputs) -> Errors:
    """Compare outputs of the same name."""
    return {name: relative_difference(ours[name], theirs[name]) for name in theirs}


def contrast(found: Outputs) -> Errors:
    """How much embeddings differ from input to input, against which the errors can be judged."""
    pairs = {name: found[name] for name in ("image", "text")}
    return {name: relative_difference(x[0].numpy(), x[1]) for name, x in pairs.items()}


if __name__ == "__main__":
    sys.exit(main())
