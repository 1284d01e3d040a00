"""Embed a large source piece by piece, so that a stopped run goes on where it was.

Pieces lie in `OUTPUT.parts/` with a note of what they were made from; pieces of anything else are
never reused. The finished result is written under its own name and the pieces are removed.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from clipjax.classify.embed import embed_texts, image_embedding_batches
from clipjax.data.loader import BadImage
from clipjax.data.source import ImageSource
from clipjax.errors import OutputError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.models.clip import CLIP, Params
from clipjax.outputs import new_file
from clipjax.progress import Progress, silent

SECONDS_PER_PIECE = 10.0
TEXTS_PER_PIECE = 8192


@dataclass(frozen=True)
class Embeddings:
    """Rows of embeddings and the positions they belong to."""

    positions: np.ndarray
    rows: Float[np.ndarray, "n dim"]
    skipped: list[BadImage] = field(default_factory=list)


class Pieces:
    """The directory of finished pieces of one job."""

    def __init__(self, output: Path, job: dict[str, str], *, restart: bool = False):
        """Open the directory, or begin it.

        Raises:
          OutputError: it holds pieces of another job, and `restart` is false.
        """
        self.folder = output.with_name(output.name + ".parts")
        note = self.folder / "job.json"
        if self.folder.exists():
            found = _read_note(note)
            if found != job:
                if not restart:
                    raise OutputError(
                        f"{self.folder}: holds pieces of another run (other weights, images or options); "
                        "remove it, or pass --overwrite to start anew"
                    )
                shutil.rmtree(self.folder)
        if not note.is_file():
            with new_file(note, overwrite=True) as staged:
                staged.write_text(json.dumps(job), encoding="utf-8")

    def load(self, kind: str) -> list[Embeddings]:
        """Read the finished pieces of one kind, in order; a piece that cannot be read counts as not done."""
        pieces = []
        for file in sorted(self.folder.glob(f"{kind}-*.npz")):
            try:
                with np.load(file, allow_pickle=False) as z:
                    bad = [BadImage(*pair) for pair in json.loads(str(z["skipped"]))]
                    pieces.append(Embeddings(z["positions"], z["rows"], bad))
            except (OSError, ValueError, KeyError, EOFError):
                break
        return pieces

    def add(self, kind: str, number: int, piece: Embeddings) -> None:
        """Keep one more piece."""
        with (
            new_file(self.folder / f"{kind}-{number:06d}.npz", overwrite=True) as staged,
            staged.open("wb") as file,
        ):
            skipped = json.dumps([[bad.id, bad.reason] for bad in piece.skipped])
            np.savez(file, positions=piece.positions, rows=piece.rows, skipped=skipped)

    def remove(self) -> None:
        """Delete all pieces, once the result is in its place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def resume_images(
    model: CLIP,
    params: Params,
    source: ImageSource,
    pieces: Pieces,
    *,
    batch_size: int,
    skip_bad: bool,
    progress: Progress = silent,
) -> Embeddings:
    """Embed what is not embedded yet and return all of it.

    Raises:
      DataError: an image cannot be decoded and `skip_bad` is false.
    """
    done = pieces.load("images")
    first = int(done[-1].positions[-1]) + 1 if done else 0
    if first < len(source):
        rest = source.select(np.arange(first, len(source)))
        stream = image_embedding_batches(model, params, rest, batch_size=batch_size, skip_bad=skip_bad)
        waiting: list[Embeddings] = []
        last = time.monotonic()
        for positions, rows, bad in progress(stream, total=len(rest), label="encoding images", step=batch_size):
            waiting.append(Embeddings(positions + first, rows, bad))
            if time.monotonic() - last > SECONDS_PER_PIECE:
                done.append(_joined(waiting))
                pieces.add("images", len(done), done[-1])
                waiting, last = [], time.monotonic()
        done += waiting
    return _joined(done)


def resume_texts(
    model: CLIP,
    params: Params,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pieces: Pieces,
    *,
    progress: Progress = silent,
) -> Embeddings:
    """Embed the texts that are not embedded yet and return all embeddings.

    Raises:
      DataError: no texts.
    """
    done = pieces.load("texts")
    first = sum(len(piece.rows) for piece in done)
    starts = range(first, len(texts), TEXTS_PER_PIECE)
    for start in progress(starts, total=len(texts) - first, label="encoding texts", unit="texts", step=TEXTS_PER_PIECE):
        chunk = texts[start : start + TEXTS_PER_PIECE]
        rows = embed_texts(model, params, tokenizer, chunk)
        done.append(Embeddings(np.arange(start, start + len(chunk)), rows))
        pieces.add("texts", len(done), done[-1])
    return _joined(done)


def _joined(parts: list[Embeddings]) -> Embeddings:
    return Embeddings(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.rows for part in parts]),
        [bad for part in parts for bad in part.skipped],
    )


def _read_note(note: Path) -> object:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
