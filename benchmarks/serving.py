"""`clipjax serve` under many clients at once, beside the bare encoder on the same machine.

    python -m benchmarks.serving                                   # 64 clients, 60 seconds, a random ViT-B/32
    python -m benchmarks.serving --model glyphs --clients 8 --seconds 5

The server is a process of its own; so are the clients, who share the machine with it and send one JPEG after the other.
Printed: answers per second, the share of the bare encoder's rate (full batches, images already decoded) measured
alone before, errors, and the server's memory at the beginning and at the end of the time. The exit status is 1 after an
error, or when memory grew by more than a twentieth after the first quarter.
"""

import argparse
import http.client
import io
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks.timing import machine
from clipjax.classify.arrays import score_pixels
from clipjax.classify.classifier import Classifier
from clipjax.classify.saved import load_classifier, save_classifier
from clipjax.inputs.tokenizer import load_tokenizer, openai_tokenizer
from clipjax.models.clip import CLIP
from clipjax.models.presets import preset
from clipjax.weights.embedded import EMBEDDED
from clipjax.weights.load import load

SIDE = 320


def main() -> None:
    args = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        save(args.model, place)
        bare = encoder_rate(place, args.batch_size, args.rounds)
        found = served(place, args)
    share = found["per_second"] / bare
    print(json.dumps({**found, "bare_per_second": round(bare, 1), "share": round(share, 3), **machine()}))
    if found["errors"] or found["grown"] > 0.05:
        sys.exit(1)


def save(name: str, place: Path) -> None:
    """Write a classifier of ten classes: random weights in the shape of a preset, or the model of the package."""
    if name == "glyphs":
        (model, params), tokenizer = load(EMBEDDED), load_tokenizer(EMBEDDED)
    else:
        model, tokenizer = CLIP(preset(name)), openai_tokenizer()
        random = np.random.default_rng(0)
        params = jax.tree.map(lambda s: jnp.asarray(0.02 * random.normal(size=s.shape), s.dtype), model.param_shapes())
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(10, model.config.embed_dim or 1)), jnp.float32)
    save_classifier(place, Classifier(model, params, tuple(f"class {n}" for n in range(10)), weights), tokenizer)


def encoder_rate(place: Path, batch_size: int, rounds: int) -> float:
    """Return images per second of full batches, without decoding or HTTP."""
    classifier = load_classifier(place)
    side = classifier.model.config.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, side, side, 3)).astype(np.uint8)
    run = jax.jit(lambda batch: score_pixels(classifier, batch))
    jax.block_until_ready(run(pixels))
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(run(pixels))
        seconds.append(time.perf_counter() - start)
    return batch_size / sorted(seconds)[rounds // 2]


def served(place: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Start a server, let clients ask for some time, and return what they and its memory say."""
    command = [sys.executable, "-m", "clipjax.cli.main", "serve", str(place), "--port", "0"]
    command += ["--batch-size", str(args.batch_size)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if "serving" in line)
            match = re.search(r"http://([^:]+):(\d+)", line)
            assert match is not None
            memory: list[int] = []
            over = threading.Event()
            watcher = threading.Thread(target=_watch, args=[server.pid, memory, over])
            results: Any = multiprocessing.get_context("spawn").Queue()
            asker = multiprocessing.get_context("spawn").Process(
                target=_clients, args=[match[1], int(match[2]), args.clients, args.seconds, results]
            )
            asker.start()
            watcher.start()
            answered, errors = results.get(timeout=args.seconds + 300)
            asker.join()
            over.set()
            watcher.join()
        finally:
            server.terminate()
    early, late = memory[len(memory) // 4], memory[-1]
    return {
        "clients": args.clients,
        "seconds": args.seconds,
        "answered": answered,
        "per_second": round(answered / args.seconds, 1),
        "errors": errors,
        "memory_mb": [round(number / 1e6) for number in (memory[0], early, late)],
        "grown": round(late / early - 1, 4),
    }


def _clients(host: str, port: int, clients: int, seconds: float, results: Any) -> None:
    """Ask in threads until the time is over; count answers within it, and everything that is no answer."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE // 8, SIDE // 8, 3)).astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(file, "JPEG", quality=85)
        data = file.getvalue()
    counts, errors, lock = [0], [0], threading.Lock()
    ready = threading.Barrier(clients + 1)

    def ask() -> None:
        connection = http.client.HTTPConnection(host, port, timeout=120)
        ready.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                connection.request("POST", "/classify", data)
                answer = connection.getresponse()
                sound = answer.status == 200 and len(json.loads(answer.read())["results"]) == 1
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                sound = False
                connection.close()
            with lock:
                counts[0] += sound and time.monotonic() < until
                errors[0] += not sound

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    for thread in threads:
        thread.join()
    results.put((counts[0], errors[0]))


def _watch(process: int, memory: list[int], over: threading.Event) -> None:
    """Note the resident memory of a process twice a second."""
    status = Path(f"/proc/{process}/status")
    while not over.wait(0.5):
        found = re.search(r"VmRSS:\s+(\d+)", status.read_text(encoding="utf-8"))
        if found:
            memory.append(int(found[1]) * 1024)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32", help="a preset, or glyphs, the model of the package")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="of the bare encoder")
    return parser


if __name__ == "__main__":
    main()
