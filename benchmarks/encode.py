"""Encoding and the gradient of the contrastive loss, side by side with transformers on torch.

    python -m benchmarks.encode --model ViT-B/32 --batch 32
    python -m benchmarks.encode --model ViT-L/14 --batch 256 --dtype bfloat16 --device cuda --compile

Same weights, same batch, same threads, alternating calls. Prints one JSON line for each of image,
text and gradient: both medians and their ratio (above 1: clipjax is faster), the share that
clipjax reaches of this device's matmul rate measured in the same run, and its model FLOP
utilisation where the device's peak is known. `--dtype` holds for weights and arithmetic of both.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.flops import image_flops, text_flops
from benchmarks.peers import (
    TorchPeer,
    images_and_tokens,
    random_clip,
    relative_difference,
    torch_threads,
    transformers_peer,
)
from benchmarks.timing import alternate, machine
from clipjax.losses import clip_loss
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import CLIPConfig, ViTConfig
from clipjax.parallel.chips import peak_flops


@dataclass(frozen=True)
class Case:
    """One thing that both sides compute; both functions return the same numbers when all work is done."""

    name: str
    ours: Callable[[], jax.Array]
    theirs: Callable[[], Any]
    flops: int


def main() -> None:
    args = _parser().parse_args()
    if args.device == "cuda":
        # jax would take three quarters of the memory and leave torch too little
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    if jax.default_backend() != {"cpu": "cpu", "cuda": "gpu"}[args.device]:
        raise SystemExit(f"jax runs on {jax.default_backend()}, not on {args.device}; set JAX_PLATFORMS")
    if args.dtype == "float32":
        # torch's default; XLA's on a GPU is TF32
        jax.config.update("jax_default_matmul_precision", "highest")
    torch_threads()
    model, params = random_clip(args.model)
    images, tokens = images_and_tokens(model.config, args.batch)
    peer = transformers_peer(model, params, dtype=args.peer_dtype or args.dtype, device=args.device)
    peer = TorchPeer(peer, images, tokens, compiled=args.compile)
    model = model.replace(dtype=args.dtype, remat=args.remat)
    params = jax.tree.map(lambda x: x.astype(args.dtype), params)
    matmul, matmul_flops = mlp_sized_matmul(model.config, args.batch, args.dtype)
    for case in cases(model, params, jax.device_put(images), jax.device_put(tokens), peer):
        if args.only in (None, case.name):
            seconds = alternate({"clipjax": case.ours, "torch": case.theirs, "matmul": matmul}, args.rounds)
            print(json.dumps(report(args, case, seconds, matmul_flops)), flush=True)


def cases(model: CLIP, params: Params, images: jax.Array, tokens: jax.Array, peer: TorchPeer) -> list[Case]:
    """List what is compared: the image tower, the text tower, the gradient of the loss by all weights."""
    batch, length = tokens.shape
    image, text = batch * image_flops(model.config), batch * text_flops(model.config, length)

    @jax.jit
    def gradient(params: Params, images: jax.Array, tokens: jax.Array) -> Params:
        def loss(params):
            scale = jnp.exp(params["logit_scale"].astype(jnp.float32))
            return clip_loss(model.encode_image(params, images), model.encode_text(params, tokens), scale)

        return jax.grad(loss)(params)

    return [
        Case("image", lambda: jax.block_until_ready(model.encode_image(params, images)), peer.image, image),
        Case("text", lambda: jax.block_until_ready(model.encode_text(params, tokens)), peer.text, text),
        Case(
            "gradient",
            lambda: jax.block_until_ready(gradient(params, images, tokens))["logit_scale"],
            peer.gradient,
            3 * (image + text),
        ),
    ]


def mlp_sized_matmul(config: CLIPConfig, batch: int, dtype: str) -> tuple[Callable[[], jax.Array], int]:
    """Return a product of the size of the image tower's largest ones, the yardstick for what the machine can do."""
    vision = config.vision
    assert isinstance(vision, ViTConfig)
    rows, inner, columns = batch * (vision.grid**2 + 1), vision.width, vision.mlp_width
    left, right = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(left, right)), 2 * rows * inner * columns


def report(args: argparse.Namespace, case: Case, seconds: dict[str, float], matmul_flops: int) -> dict[str, Any]:
    """Describe one comparison."""
    ours, theirs = seconds["clipjax"], seconds["torch"]
    matmul_rate = matmul_flops / seconds["matmul"]
    peak = peak_flops(jax.devices()[0].device_kind) if args.dtype == "bfloat16" else None
    return {
        "benchmark": case.name,
        "model": args.model,
        "batch": args.batch,
        "dtype": args.dtype,
        "torch_dtype": args.peer_dtype or args.dtype,
        "torch_compile": args.compile,
        "clipjax_s": round(ours, 4),
        "torch_s": round(theirs, 4),
        "ratio": round(theirs / ours, 2),
        "clipjax_per_s": round(args.batch / ours, 1),
        "torch_per_s": round(args.batch / theirs, 1),
        "matmul_gflops": round(matmul_rate / 1e9, 1),
        "share_of_matmul": round(case.flops / ours / matmul_rate, 3),
        "flop_utilisation": peak and round(case.flops / ours / peak, 3),
        "torch_flop_utilisation": peak and round(case.flops / theirs / peak, 3),
        "relative_difference": float(f"{relative_difference(case.ours(), case.theirs()):.1e}"),
        **machine(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of both sides")
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), help="of torch, where it differs")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of both sides")
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer")
    parser.add_argument("--only", choices=("image", "text", "gradient"))
    return parser


if __name__ == "__main__":
    main()
