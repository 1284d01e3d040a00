"""The same CLIP in clipjax and in transformers (torch): same random weights, same inputs."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import clipjax
from benchmarks.needs import require
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import CLIPConfig
from clipjax.models.presets import preset


def random_clip(name: str, *, seed: int = 0) -> tuple[CLIP, Params]:
    """Return a published model by name with the weights it had before training."""
    model = CLIP(preset(name))
    return model, jax.jit(model.init)(jax.random.key(seed))


def torch_threads() -> int:
    """Give torch as many threads as this process may use, which is what XLA takes."""
    require("torch")
    import torch

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return threads


def transformers_peer(model: CLIP, params: Params, *, dtype: str = "float32", device: str = "cpu") -> Any:
    """Return the transformers CLIPModel with these weights, in memory of its own."""
    import torch
    from transformers import CLIPModel

    with tempfile.TemporaryDirectory() as folder:
        clipjax.save(Path(folder, "model"), model, params)
        # sdpa is the fastest attention transformers has without extra packages, and its default
        peer = CLIPModel.from_pretrained(f"{folder}/model", dtype=getattr(torch, dtype), attn_implementation="sdpa")
        # from_pretrained leaves the weights in the mapped file, in pages that are slower to reach than memory
        for tensor in peer.parameters():
            tensor.data = tensor.data.clone()
    return peer.to(device).eval()


class TorchPeer:
    """A transformers CLIPModel with its inputs; its methods run to the end and return a tensor."""

    def __init__(self, peer: Any, images: np.ndarray, tokens: np.ndarray, *, compiled: bool = False):
        import torch

        self.model = peer
        self._torch = torch
        self._pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(peer.device, peer.dtype)
        self._ids = torch.from_numpy(tokens).long().to(peer.device)
        self._compile: Callable = torch.compile if compiled else lambda function: function
        self._image = self._compile(lambda pixels: peer.get_image_features(pixel_values=pixels).pooler_output)
        self._text = self._compile(lambda ids: peer.get_text_features(input_ids=ids).pooler_output)
        self._loss = self._compile(lambda pixels, ids: peer(pixel_values=pixels, input_ids=ids, return_loss=True).loss)

    def image(self) -> Any:
        """Embed the images."""
        with self._torch.inference_mode():
            return self._finished(self._image(self._pixels))

    def text(self) -> Any:
        """Embed the texts."""
        with self._torch.inference_mode():
            return self._finished(self._text(self._ids))

    def gradient(self) -> Any:
        """Differentiate the contrastive loss by all weights; return the derivative of logit_scale."""
        self.model.zero_grad(set_to_none=True)
        self._loss(self._pixels, self._ids).backward()
        return self._finished(self.model.logit_scale.grad)

    def _finished(self, result: Any) -> Any:
        if self.model.device.type == "cuda":
            self._torch.cuda.synchronize()
        return result


def images_and_tokens(config: CLIPConfig, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images [B, H, W, 3], and token rows as full as a caption can be."""
    rng = np.random.default_rng(0)
    assert config.text is not None
    images = rng.standard_normal((batch, config.image_size, config.image_size, 3), np.float32)
    tokens = rng.integers(1, config.text.bos_token_id, (batch, config.context_length), np.int32)
    tokens[:, 0], tokens[:, -1] = config.text.bos_token_id, config.text.eos_token_id
    return images, tokens


def relative_difference(ours: jax.Array | np.ndarray, theirs: Any) -> float:
    """Return the largest difference between an array and a torch tensor, relative to the largest number."""
    expected = theirs.detach().float().cpu().numpy()
    return float(np.max(np.abs(np.asarray(ours.astype(jnp.float32)) - expected)) / np.max(np.abs(expected)))
