"""Encoding and the gradient of the contrastive loss, side by side with transformers on torch.

    python -m benchmarks.encode --model ViT-B/32 --batch 32

Same weights, same batch, same threads, alternating calls. Prints one JSON line for each of image,
text and gradient: both medians, their ratio (above 1: clipjax is faster), and the share of this
machine's matmul rate, measured in the same run, that clipjax reaches.
"""

import argparse
import json

import jax
import jax.numpy as jnp

from benchmarks.flops import image_flops, text_flops
from benchmarks.peers import alternate, both_models, images_and_tokens, machine, torch_threads
from clipjax.losses import clip_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of both sides")
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), help="of torch, where it differs")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--only", choices=("image", "text", "gradient"))
    args = parser.parse_args()

    import torch

    torch_threads()
    model, params, peer = both_models(args.model, dtype=args.peer_dtype or args.dtype)
    model = model.replace(dtype=args.dtype, remat=args.remat)
    images, tokens = images_and_tokens(model, args.batch)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(peer.dtype)
    ids = torch.from_numpy(tokens).long()
    images, tokens = jax.device_put(images), jax.device_put(tokens)

    @jax.jit
    def gradient(params, images, tokens):
        def loss(params):
            scale = jnp.exp(params["logit_scale"])
            return clip_loss(model.encode_image(params, images), model.encode_text(params, tokens), scale)

        return jax.grad(loss)(params)

    def torch_gradient():
        peer.zero_grad(set_to_none=True)
        peer(input_ids=ids, pixel_values=pixels, return_loss=True).loss.backward()

    def torch_inference(function):
        def call():
            with torch.inference_mode():
                return function()

        return call

    matmul, matmul_flops = mlp_sized_matmul(model, args.batch, args.dtype)
    forward = image_flops(model.config) * args.batch, text_flops(model.config, tokens.shape[1]) * args.batch
    cases = {
        "image": (
            lambda: jax.block_until_ready(model.encode_image(params, images)),
            torch_inference(lambda: peer.get_image_features(pixel_values=pixels).pooler_output),
            forward[0],
        ),
        "text": (
            lambda: jax.block_until_ready(model.encode_text(params, tokens)),
            torch_inference(lambda: peer.get_text_features(input_ids=ids).pooler_output),
            forward[1],
        ),
        "gradient": (
            lambda: jax.block_until_ready(gradient(params, images, tokens)),
            torch_gradient,
            3 * sum(forward),
        ),
    }
    for name, (ours, theirs, flops) in cases.items():
        if args.only not in (None, name):
            continue
        seconds = alternate({"clipjax": ours, "torch": theirs, "matmul": matmul}, args.rounds)
        rate = matmul_flops / seconds["matmul"]
        print(
            json.dumps(
                {
                    "benchmark": name,
                    "model": args.model,
                    "batch": args.batch,
                    "dtype": args.dtype,
                    "torch_dtype": str(peer.dtype).removeprefix("torch."),
                    "clipjax_s": round(seconds["clipjax"], 4),
                    "torch_s": round(seconds["torch"], 4),
                    "ratio": round(seconds["torch"] / seconds["clipjax"], 2),
                    "clipjax_per_s": round(args.batch / seconds["clipjax"], 1),
                    "torch_per_s": round(args.batch / seconds["torch"], 1),
                    "matmul_gflops": round(rate / 1e9, 1),
                    "share_of_matmul": round(flops / seconds["clipjax"] / rate, 3),
                    **machine(),
                }
            ),
            flush=True,
        )


def mlp_sized_matmul(model, batch: int, dtype: str):
    """Return a product of the size of the image tower's largest ones, the yardstick for what the machine can do."""
    vision = model.config.vision
    rows, inner, columns = batch * (vision.grid**2 + 1), vision.width, vision.mlp_width
    left, right = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(left, right)), 2 * rows * inner * columns


if __name__ == "__main__":
    main()
