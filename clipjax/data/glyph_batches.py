"""Batches of the procedural world for training: drawn and captioned ahead, in processes of their own.

A batch depends on its step alone, so any number of processes and workers sees the same ones.
"""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from clipjax.data.glyph_captions import captions
from clipjax.data.glyph_dice import dice_for
from clipjax.data.glyphs import draw
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import Tokenizer

_WORLD = 1  # goes up with every change of what a position shows or how it is described
_CAPTIONS = 1  # the stream of draws that captions come from
_AHEAD = 3  # batches that a worker keeps ready


def sample_captions(count: int, seed: int) -> list[str]:
    """Write the captions of the first `count` images of a world."""
    return [captions(draw(p, seed), dice_for(seed, p, _CAPTIONS).generator) for p in range(count)]


class _Drawn(NamedTuple):
    """The part of one batch that belongs to one process, small enough to send around."""

    images: UInt8[np.ndarray, "batch size size 3"]
    tokens: Int32[np.ndarray, "batch context"]


@dataclass(frozen=True)
class GlyphBatches:
    """An endless row of batches of captioned images: `images`, normalised, and `tokens`.

    `tokenizer` turns texts into rows of `length` ids. With `workers=0` the caller's own thread
    draws; otherwise that many processes do, at most a few batches early.
    """

    size: int
    batch_size: int
    seed: int
    tokenizer: Tokenizer
    length: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    workers: int = 1

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides what the batches hold."""
        facts = [_WORLD, self.size, self.batch_size, self.seed, self.tokenizer.fingerprint, self.length]
        facts += [[float(value) for value in (*self.mean, *self.std)]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def batches(self, first_step: int = 0, *, process: int = 0, processes: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """Yield this process's rows of batch `first_step`, of the next one, and so on without end.

        Raises:
          DataError: the processes do not divide the batch.
        """
        if self.batch_size % processes:
            raise DataError(
                f"a batch of {self.batch_size} images cannot be shared by {processes} processes; "
                "choose a multiple of their number"
            )
        local = self.batch_size // processes
        rows = range(process * local, (process + 1) * local)
        drawn = self._drawn_here(first_step, rows) if self.workers == 0 else self._drawn_ahead(first_step, rows)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scale, shift = 1 / (255 * std), -mean / std
        return ({"images": batch.images * scale + shift, "tokens": batch.tokens} for batch in drawn)

    def _draw(self, step: int, rows: range) -> _Drawn:
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        texts = []
        for index, row in enumerate(rows):
            position = step * self.batch_size + row
            scene = draw(position, self.seed, self.size)
            images[index] = scene.image
            texts.append(captions(scene, dice_for(self.seed, position, _CAPTIONS).generator))
        return _Drawn(images, self.tokenizer(texts, self.length))

    def _drawn_here(self, first_step: int, rows: range) -> Iterator[_Drawn]:
        step = first_step
        while True:
            yield self._draw(step, rows)
            step += 1

    def _drawn_ahead(self, first_step: int, rows: range) -> Iterator[_Drawn]:
        """Take batches from the workers in turn; they end with this generator, or with this process."""
        # plain child processes: those of multiprocessing would run the user's main script again
        command = [sys.executable, "-c", "from clipjax.data.glyph_batches import work; work()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
        processes = []
        try:
            for worker in range(self.workers):
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
                )
                processes.append(process)
                assert process.stdin and process.stdout  # both were asked for
                with process.stdin as order:
                    order.write(pickle.dumps((self, first_step + worker, rows)))
            while True:
                for process in processes:
                    yield self._receive(process.stdout, len(rows))
        finally:
            for process in processes:
                process.kill()
                process.stdout.close()
                process.wait()

    def _receive(self, pipe: IO[bytes], count: int) -> _Drawn:
        images = np.empty((count, self.size, self.size, 3), np.uint8)
        tokens = np.empty((count, self.length), np.int32)
        arrays: list[Any] = [images, tokens]
        for array in arrays:
            room = memoryview(array).cast("B")
            while room:
                read = pipe.readinto(room)  # pyright: ignore[reportAttributeAccessIssue]
                if not read:
                    raise DataError("a process that draws images ended early; its message is above, or memory ran out")
                room = room[read:]
        return _Drawn(images, tokens)


def work() -> None:
    """Draw in a child process: read the order from standard input, write batches until nobody reads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # nothing that prints may come between the batches
    batches, step, rows = pickle.load(sys.stdin.buffer)
    ready: Queue[_Drawn] = Queue(_AHEAD)
    threading.Thread(target=_send, args=(ready, pipe), daemon=True).start()
    while True:
        ready.put(batches._draw(step, rows))
        step += batches.workers


def _send(ready: Queue[_Drawn], pipe: IO[bytes]) -> None:
    try:
        while True:
            arrays: tuple[Any, ...] = ready.get()
            for array in arrays:
                rest = memoryview(array).cast("B")  # pyright: ignore[reportArgumentType]
                while rest:
                    rest = rest[pipe.write(rest) :]
    except OSError:
        os._exit(0)  # the reader has gone
