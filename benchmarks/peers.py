"""The same CLIP in clipjax and in transformers (torch), with the same random weights, and fair timing of both."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

import clipjax
from clipjax.models.clip import CLIP, Params
from clipjax.models.presets import preset


def torch_threads() -> int:
    """Give torch as many threads as this process may use, which is what XLA takes."""
    import torch

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return threads


def both_models(name: str, *, seed: int = 0, dtype: str = "float32") -> tuple[CLIP, Params, Any]:
    """Return (model, params, transformers CLIPModel) with the same random weights."""
    import torch
    from transformers import CLIPModel

    model = CLIP(preset(name))
    params = jax.jit(model.init)(jax.random.key(seed))
    with tempfile.TemporaryDirectory() as folder:
        clipjax.save(f"{folder}/model", model, params)
        # sdpa is the fastest attention transformers has without extra packages, and its default
        peer = CLIPModel.from_pretrained(f"{folder}/model", dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return model, params, peer.eval()


def alternate(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Time functions in turn, so that a slow moment of the machine hits all, and return their median seconds.

    Each is called twice before the first measurement (compilation, caches).
    """
    for function in functions.values():
        function()
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def images_and_tokens(model: CLIP, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images [B, H, W, 3], and token rows as full as a caption can be."""
    rng = np.random.default_rng(0)
    config = model.config
    assert config.text is not None
    images = rng.standard_normal((batch, config.image_size, config.image_size, 3), np.float32)
    tokens = rng.integers(1, config.text.bos_token_id, (batch, config.context_length), np.int32)
    tokens[:, 0], tokens[:, -1] = config.text.bos_token_id, config.text.eos_token_id
    return images, tokens


def machine() -> dict[str, Any]:
    """Describe where a number was measured."""
    names = ("jax", "flax", "torch", "transformers")
    return {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        **{name: version(name) for name in names},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
