"""Loading a ViT-B/32 (605 MB of float32), side by side with transformers on torch.

    python -m benchmarks.load

Each measurement is a fresh process, and every round begins with another side. A clock starts
after imports, with the file in the system's cache, and stops when all weights can be used.
`from_pretrained` returns weights that lie in the mapped file and have not been read yet, which
clipjax, whose blocks are stacked, cannot do;
`transformers_copied` is the same followed by a copy to memory, the like of what clipjax does.
Prints one JSON line: median seconds, their ratios (1: as fast as transformers), and peak
anonymous memory as a multiple of the float32 params.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.memory import PeakMemory
from benchmarks.timing import machine, rotated

SIDES = ("clipjax", "transformers", "transformers_copied", "clipjax_openai_float16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "FOLDER"), help="measure one side, in this process")
    args = parser.parse_args()
    if args.one:
        side, folder = args.one
        print(json.dumps(measure(loader(side, Path(folder)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        param_bytes = write_checkpoints(args.model, Path(folder))
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for turn in range(args.rounds):
            for side in rotated(SIDES, turn):
                runs[side].append(in_fresh_process(side, folder))
    print(json.dumps(report(args.model, param_bytes, runs)))


def write_checkpoints(name: str, folder: Path) -> int:
    """Write a random model in Hugging Face's layout and as OpenAI's float16; return the size of the float32 params."""
    import jax

    import clipjax
    from benchmarks.peers import random_clip

    model, params = random_clip(name)
    clipjax.save(folder / "huggingface", model, params)
    # OpenAI's archives hold matrices in float16 and the rest in float32
    half = jax.tree.map(lambda x: x.astype("float16") if x.ndim > 1 else x, params)
    clipjax.save(folder / "openai.pt", model, half, format="openai-state-dict")
    return sum(x.nbytes for x in jax.tree.leaves(params))


def loader(side: str, folder: Path) -> Callable[[], Any]:
    """Import what a side needs and return the function that loads."""
    if side.startswith("clipjax"):
        import jax

        import clipjax

        load = clipjax.load
        jax.devices()  # starts the backend
        path = folder / ("openai.pt" if side.endswith("float16") else "huggingface")
        return lambda: jax.block_until_ready(load(path)[1])

    import torch
    from transformers import CLIPModel

    from benchmarks.peers import torch_threads

    torch_threads()

    def from_pretrained() -> Any:
        model = CLIPModel.from_pretrained(folder / "huggingface", dtype=torch.float32)
        if side == "transformers_copied":
            for tensor in model.parameters():
                tensor.data = tensor.data.clone()
        return model

    return from_pretrained


def measure(load: Callable[[], Any]) -> dict[str, float]:
    """Time one call and watch its memory."""
    with PeakMemory() as memory:
        start = time.perf_counter()
        _kept = load()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_bytes": memory.peak}


def in_fresh_process(side: str, folder: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load", "--one", side, folder]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return json.loads(output.splitlines()[-1])


def report(model: str, param_bytes: int, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Describe the medians of all sides."""
    seconds = {side: statistics.median(run["seconds"] for run in runs[side]) for side in SIDES}
    memory = {side: max(run["peak_bytes"] for run in runs[side]) / param_bytes for side in SIDES}
    return {
        "benchmark": "load",
        "model": model,
        "param_mb": round(param_bytes / 1e6),
        **{f"{side}_s": round(seconds[side], 3) for side in SIDES},
        "ratio": round(seconds["clipjax"] / seconds["transformers"], 2),
        "ratio_copied": round(seconds["clipjax"] / seconds["transformers_copied"], 2),
        **{f"{side}_memory": round(memory[side], 3) for side in SIDES},
        **machine(),
    }


if __name__ == "__main__":
    main()
