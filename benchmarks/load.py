"""Loading a ViT-B/32 (605 MB of float32), side by side with transformers on torch.

    python -m benchmarks.load

Each measurement is a fresh process, and every round begins with another side. A clock starts
after imports, with the file in the system's cache, and stops when all weights can be used.
`from_pretrained` returns weights that lie in the mapped file and have not been read yet, which
clipjax, whose blocks are stacked, cannot do;
`transformers_copied` is the same followed by a copy to memory, the like of what clipjax does.
`copy` reads no names and checks nothing: two threads copy the file's bytes into new memory, which no
loader that holds its weights in memory can undercut. Prints one JSON line: median seconds, their ratios
(1: as fast as transformers), and, from runs of their own, peak anonymous memory as a multiple of
the float32 params.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import PeakMemory
from benchmarks.needs import require
from benchmarks.timing import machine, rotated

SIDES = ("clipjax", "transformers", "transformers_copied", "clipjax_openai_float16", "copy")
_MEMORY_ROUNDS = 2
_PIECE = 1 << 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "FOLDER"), help="measure one side, in this process")
    parser.add_argument("--memory", action="store_true", help="of --one, measure memory; watching it takes time")
    args = parser.parse_args()
    if args.one:
        side, folder = args.one
        print(json.dumps(peak(loader(side, Path(folder))) if args.memory else seconds(loader(side, Path(folder)))))
        return
    require("torch")
    with tempfile.TemporaryDirectory() as folder:
        param_bytes = write_checkpoints(args.model, Path(folder))
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(args.rounds):
            for side in rotated(SIDES, turn):
                times[side].append(in_fresh_process(side, folder))
        peaks = {side: max(in_fresh_process(side, folder, "--memory") for _ in range(_MEMORY_ROUNDS)) for side in SIDES}
    print(json.dumps(report(args.model, param_bytes, times, peaks)))


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
    if side == "copy":
        return lambda: copy_file(folder / "huggingface" / "model.safetensors")
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


def copy_file(path: Path) -> np.ndarray:
    """Copy a file's bytes into new memory by two threads."""
    source = np.memmap(path, np.uint8, "r")
    target = np.empty(source.shape, np.uint8)

    def copy(start: int) -> None:
        target[start : start + _PIECE] = source[start : start + _PIECE]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, range(0, len(source), _PIECE)))
    return target


def seconds(load: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    _kept = load()
    return time.perf_counter() - start


def peak(load: Callable[[], Any]) -> float:
    """Watch the memory of one call; return bytes."""
    with PeakMemory() as memory:
        _kept = load()
    return memory.peak


def in_fresh_process(side: str, folder: str, *options: str) -> float:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load", "--one", side, folder, *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return json.loads(output.splitlines()[-1])


def report(model: str, param_bytes: int, times: dict[str, list[float]], peaks: dict[str, float]) -> dict[str, Any]:
    """Describe the medians of all sides."""
    seconds = {side: statistics.median(times[side]) for side in SIDES}
    memory = {side: peaks[side] / param_bytes for side in SIDES}
    return {
        "benchmark": "load",
        "model": model,
        "param_mb": round(param_bytes / 1e6),
        **{f"{side}_s": round(seconds[side], 3) for side in SIDES},
        "ratio": round(seconds["clipjax"] / seconds["transformers"], 2),
        "ratio_copied": round(seconds["clipjax"] / seconds["transformers_copied"], 2),
        "ratio_of_copy": round(seconds["copy"] / seconds["transformers"], 2),
        **{f"{side}_memory": round(memory[side], 3) for side in SIDES},
        **machine(),
    }


if __name__ == "__main__":
    main()
