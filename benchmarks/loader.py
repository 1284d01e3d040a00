"""Decoding and augmenting JPEGs, side by side with a plain loop in Pillow and NumPy.

    python -m benchmarks.loader
    python -m benchmarks.loader --tar photographs.tar

Both open, convert to RGB, cut out a random part of 50 to 100 % and resize it, bicubic, flip half of the
images, and normalise to float32; clipjax also puts them into batches, in threads or in worker
processes. Images are smooth random ones, or those of --tar, encoded anew at each size. Prints one JSON
line for each size: images per second of the loop, of clipjax with one thread, with one per core
(`all`) and with one worker process per core (`processes`), and the same per second of processor time,
of workers too, on which other work on the machine has less influence. A ratio of 1 means as fast as
the loop, per core.
"""

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.timing import alternate, machine
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import ImageSource, memory_source
from clipjax.data.views import Transform, train_transform
from clipjax.inputs.image import OPENAI_MEAN, OPENAI_STD

BATCH_SIZE = 64
SCALE = (0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="side of the JPEGs and of the results")
    parser.add_argument("--images", type=int, default=256, help="images in the source")
    parser.add_argument("--batches", type=int, default=12, help="batches in one measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tar", help="a tar or folder of images, in place of random ones")
    args = parser.parse_args()
    for size in args.sizes:
        source = jpegs(size, args.images, args.tar)
        print(json.dumps(measure(source, size, args.batches, args.rounds) | {"images_from": args.tar or "random"}))


def jpegs(size: int, count: int, path: str | None) -> ImageSource:
    """Encode `count` square images of one size, as JPEGs of quality 90."""
    images = photographs(path) if path else smooth_images()
    encoded = []
    for _, image in zip(range(count), images):
        buffer = io.BytesIO()
        image.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return memory_source(encoded)


def smooth_images() -> Iterator[Image.Image]:
    """Make images with as much detail as photographs have, about 1 bit per pixel when encoded."""
    rng = np.random.default_rng(0)
    while True:
        yield Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))


def photographs(path: str) -> Iterator[Image.Image]:
    """Decode the images of a folder or tar, again and again."""
    from clipjax.data.opening import open_source

    source = open_source(path)
    while True:
        for index in range(len(source)):
            yield source.image(index).convert("RGB")


def measure(source: ImageSource, size: int, batches: int, rounds: int) -> dict[str, Any]:
    """Time both sides in turn."""
    cores = len(os.sched_getaffinity(0))
    workers = Workers(source, size, cores)
    sides: dict[str, Callable[[], int]] = {
        "pillow": lambda: pillow_loop(source, size, batches * BATCH_SIZE),
        "clipjax": lambda: clipjax_loop(source, size, batches, threads=1),
        "clipjax_all": lambda: clipjax_loop(source, size, batches, threads=cores),
        "clipjax_processes": lambda: workers.take(batches),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    cpu_rates: dict[str, list[float]] = {name: [] for name in sides}

    def timed(name: str) -> Callable[[], None]:
        def run() -> None:
            if name == "clipjax_processes":
                workers.take_what_is_ready()
            start, cpu_start = time.perf_counter(), time.process_time() + children_seconds()
            images = sides[name]()
            rates[name].append(images / (time.perf_counter() - start))
            cpu_rates[name].append(images / (time.process_time() + children_seconds() - cpu_start))

        return run

    alternate({name: timed(name) for name in sides}, rounds)
    workers.stream.close()
    rate = {name: statistics.median(rates[name]) for name in sides}
    cpu_rate = {name: statistics.median(cpu_rates[name]) for name in sides}
    return {
        "benchmark": "loader",
        "size": size,
        "bytes_per_image": round(source.sizes.mean()),
        "cores": cores,
        **{f"{name}_per_s": round(rate[name]) for name in sides},
        "ratio": round(rate["clipjax"] / rate["pillow"], 2),
        "ratio_per_core": round(rate["clipjax_all"] / cores / rate["pillow"], 2),
        "ratio_per_core_processes": round(rate["clipjax_processes"] / cores / rate["pillow"], 2),
        **{f"{name}_per_cpu_s": round(cpu_rate[name]) for name in sides},
        "ratio_cpu": round(cpu_rate["clipjax"] / cpu_rate["pillow"], 2),
        "ratio_cpu_all": round(cpu_rate["clipjax_all"] / cpu_rate["pillow"], 2),
        "ratio_cpu_processes": round(cpu_rate["clipjax_processes"] / cpu_rate["pillow"], 2),
        **machine(),
    }


class Counted:
    """A transform that counts the images it has been given, those decoded ahead among them."""

    def __init__(self, transform: Transform):
        self.transform, self.images, self.lock = transform, 0, threading.Lock()
        self.shape = transform.shape

    def __call__(self, image: Image.Image, rng: np.random.Generator, out: np.ndarray | None = None) -> np.ndarray:
        with self.lock:
            self.images += 1
        return self.transform(image, rng, out)


def clipjax_loop(source: ImageSource, size: int, batches: int, threads: int) -> int:
    """Take some batches and drop them; return the number of images prepared, also for batches not taken."""
    transform = Counted(train_transform(size, scale=SCALE, flip=0.5))
    stream = ImageBatches(source, Shuffled(len(source), 0), transform, BATCH_SIZE, 0, threads=threads).batches()
    for _ in range(batches):
        next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    return transform.images


class Workers:
    """Worker processes that stay between measurements; they wait once a few batches are ready."""

    def __init__(self, source: ImageSource, size: int, cores: int):
        transform = train_transform(size, scale=SCALE, flip=0.5)
        batches = ImageBatches(source, Shuffled(len(source), 0), transform, BATCH_SIZE, 0, workers=cores)
        self.stream: Any = batches.batches()
        self.cores = cores

    def take_what_is_ready(self) -> None:
        """Catch up with the workers, so that all that is taken from here on is prepared from here on."""
        self.take(4 * self.cores)

    def take(self, batches: int) -> int:
        """Take some batches of each worker and drop them; return the number of images."""
        for _ in range(batches * self.cores):
            next(self.stream)
        return batches * self.cores * BATCH_SIZE


def children_seconds() -> float:
    """Add up the processor time of this process's children, in steps of 10 ms."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pillow_loop(source: ImageSource, size: int, images: int) -> int:
    """Prepare images one after the other, as one would without a library; return their number."""
    rng = np.random.default_rng(0)
    mean, std = np.asarray(OPENAI_MEAN, np.float32), np.asarray(OPENAI_STD, np.float32)
    for index in rng.integers(0, len(source), images).tolist():
        image = Image.open(io.BytesIO(source.read(index))).convert("RGB")
        side = math.sqrt(rng.uniform(*SCALE)) * min(image.size)
        left, top = (image.width - side) * rng.random(), (image.height - side) * rng.random()
        part = image.crop((round(left), round(top), round(left + side), round(top + side)))
        image = part.resize((size, size), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        _pixels = (np.asarray(image, np.float32) / 255 - mean) / std
    return images


if __name__ == "__main__":
    main()
