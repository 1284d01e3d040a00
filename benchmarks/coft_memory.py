"""What a step of CoFT's phase I needs in memory, compiled and not run: many classes, read in several parts.

python -m benchmarks.coft_memory --preset ViT-B/16 --classes 1000 --batch 64 --parts 1 8 32
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.methods.coft.prompting import PromptStep, initial_prompts
from clipjax.models.clip import CLIP
from clipjax.models.presets import preset
from clipjax.parallel.mesh import make_mesh
from clipjax.parallel.rules import REPLICATED
from clipjax.training.optimizers import Optimizer
from clipjax.training.state import initial_state
from clipjax.training.step import Program, train_step

OPTIMIZER = Optimizer("sgd", lr=0.03, weight_decay=5e-4, decayed="")


def needed(model: CLIP, classes: int, length: int, batch: int, parts: int) -> tuple[int, int]:
    """Compile one step on one device: bytes of what is put in, and of what is needed besides."""
    mesh = make_mesh(devices=jax.devices()[:1])
    program = Program(
        PromptStep(model, mesh, text_parts=parts), OPTIMIZER.structure(), None, mesh, REPLICATED, REPLICATED
    )
    prompts = jax.eval_shape(lambda: initial_prompts(model, jax.random.key(0), 16, 20))
    state = jax.eval_shape(
        lambda: initial_state(
            jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), prompts),
            OPTIMIZER.init(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), prompts)),
            {},
            averaged=False,
            seed=0,
        )
    )
    size = model.config.image_size
    shape = jax.ShapeDtypeStruct
    frozen = {
        "params": model.param_shapes(),
        "tokens": shape((classes, length), np.int32),
        "weight": shape((), np.float32),
    }
    rows = {"images": shape((batch, size, size, 3), np.float32), "labels": shape((batch,), np.int32)}
    compiled = train_step.lower(program, state, frozen, rows, OPTIMIZER.numbers(100)).compile()
    memory = compiled.memory_analysis()
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ViT-B/16")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", default="dots")
    parser.add_argument("--classes", type=int, nargs="+", default=[1000])
    parser.add_argument("--length", type=int, default=24, help="tokens of the longest class with its contexts")
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 8, 32])
    args = parser.parse_args()
    model = CLIP(preset(args.preset), dtype=args.dtype, remat=args.remat)
    print(f"{args.preset} {args.dtype}, remat {args.remat}, on {jax.devices()[0].device_kind}")
    for classes in args.classes:
        for batch in args.batch:
            for parts in args.parts:
                given, besides = needed(model, classes, args.length, batch, parts)
                print(
                    f"{classes} classes, {batch} images, {parts} parts: "
                    f"{given / 2**30:.2f} GiB in, {besides / 2**30:.2f} GiB besides",
                    flush=True,
                )


if __name__ == "__main__":
    main()
