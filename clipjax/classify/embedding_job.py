"""Embed a large source piece by piece, so that a stopped run goes on where it was.

Pieces lie in `OUTPUT.parts/` with a note of what they were made from; pieces of anything else are
never reused. The directory appears with the first piece and goes when the result is in its place.
"""

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from clipjax.classify.embed import embed_texts, image_embedding_batches
from clipjax.data.loader import BadImage
from clipjax.data.source import ImageSource
from clipjax.errors import DataError, OutputError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.models.clip import CLIP, Params
from clipjax.outputs import new_file
from clipjax.progress import Progress, silent
from clipjax.weights.fingerprint import fingerprint

SECONDS_PER_PIECE = 10.0
TEXTS_PER_PIECE = 1024

_NOTE = "job.json"


@dataclass(frozen=True)
class Embeddings:
    """Rows of embeddings and the positions they belong to."""

    positions: Int[np.ndarray, " n"]
    rows: Float[np.ndarray, "n dim"]
    skipped: list[BadImage] = field(default_factory=list)


def job_of(
    model: CLIP, params: Params, source: ImageSource | None, tokenizer: Tokenizer | None, texts: Sequence[str]
) -> dict[str, str]:
    """Say what a run's embeddings depend on: the pieces of a run that differs in any of it are of no use."""
    return {
        "weights": fingerprint(params),
        "model": repr(model),
        "images": source.fingerprint if source else "",
        "tokenizer": tokenizer.fingerprint if tokenizer else "",
        "texts": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
    }


class Pieces:
    """The directory of finished pieces of one job."""

    def __init__(self, output: Path, job: dict[str, str], *, restart: bool = False):
        """Look for pieces of this job; `restart` throws away whatever pieces there are.

        Raises:
          OutputError: pieces of another job are there, or something that is not a directory of pieces.
        """
        self.folder = output.with_name(output.name + ".parts")
        self._job = job
        if not self.folder.exists():
            return
        note = self.folder / _NOTE
        # all that a run leaves which was stopped in the middle of its note
        unfinished = f".{_NOTE}.partial-"
        if not note.is_file() and any(not entry.name.startswith(unfinished) for entry in _entries(self.folder)):
            raise OutputError(f"{self.folder}: is in the way and was not written by clipjax; move it")
        if restart or _read_note(note) != job:
            if note.is_file() and not restart:
                raise OutputError(
                    f"{self.folder}: holds a stopped run with other weights, images or options; "
                    "repeat that command, or pass --overwrite to start anew"
                )
            shutil.rmtree(self.folder)

    def count(self, kind: str) -> int:
        """Count the embeddings in finished pieces of one kind."""
        return sum(len(piece.positions) for piece in self.load(kind))

    def load(self, kind: str) -> list[Embeddings]:
        """Read the finished pieces of one kind, in order.

        A piece that cannot be read, or does not begin where the one before it ends (two runs at once
        leave such), is removed, with all that follow it: they count as not done.
        """
        pieces: list[Embeddings] = []
        covered = 0
        files = sorted(self.folder.glob(f"{kind}-*.npz"))
        for number, file in enumerate(files):
            piece = _read_piece(file) if file.name == self._name(kind, number) else None
            if piece is None or not _continues(piece, covered):
                for later in files[number:]:
                    later.unlink(missing_ok=True)
                break
            covered += len(piece.positions) + len(piece.skipped)
            pieces.append(piece)
        return pieces

    def add(self, kind: str, number: int, piece: Embeddings) -> None:
        """Keep piece `number`, counted from 0.

        Raises:
          OutputError: it cannot be written.
        """
        if not (self.folder / _NOTE).is_file():
            with new_file(self.folder / _NOTE) as staged:
                staged.write_text(json.dumps(self._job), encoding="utf-8")
        with (
            new_file(self.folder / self._name(kind, number), overwrite=True) as staged,
            staged.open("wb") as file,
        ):
            skipped = json.dumps([[bad.id, bad.reason] for bad in piece.skipped])
            np.savez(file, positions=piece.positions, rows=piece.rows, skipped=skipped)

    def remove(self) -> None:
        """Delete all pieces, once the result is in its place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _name(self, kind: str, number: int) -> str:
        return f"{kind}-{number:06d}.npz"


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

    Pieces are whole batches, so a stopped and resumed run gives the same bits as one that was not.

    Raises:
      DataError: an image cannot be decoded and `skip_bad` is false.
    """
    done = pieces.load("images")
    count = len(done)
    if not skip_bad and any(piece.skipped for piece in done):
        bad = next(bad for piece in done for bad in piece.skipped)
        raise DataError(f"{bad.reason}; or pass --skip-bad to leave such images out")
    first = _reached(source, done[-1]) if done else 0
    if first == len(source):
        return _joined(done)
    rest = source.select(np.arange(first, len(source)))
    batch_size = min(batch_size, len(source))
    stream = image_embedding_batches(model, params, rest, batch_size=batch_size, skip_bad=skip_bad)
    waiting: list[Embeddings] = []
    last = time.monotonic()
    for positions, rows, bad in progress(stream, total=len(rest), label="encoding images", step=batch_size):
        waiting.append(Embeddings(positions + first, rows, bad))
        if time.monotonic() - last > SECONDS_PER_PIECE:
            done.append(_joined(waiting))
            pieces.add("images", count, done[-1])
            waiting, count, last = [], count + 1, time.monotonic()
    return _joined([*done, *waiting])


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
      ConfigError: the tokenizer is not this model's.
      DataError: no texts.
    """
    done = pieces.load("texts")
    first = sum(len(piece.rows) for piece in done)
    starts = range(first, len(texts), TEXTS_PER_PIECE)
    for start in progress(starts, total=len(texts) - first, label="encoding texts", unit="texts", step=TEXTS_PER_PIECE):
        chunk = texts[start : start + TEXTS_PER_PIECE]
        rows = embed_texts(model, params, tokenizer, chunk)
        done.append(Embeddings(np.arange(start, start + len(chunk)), rows))
        if len(chunk) == TEXTS_PER_PIECE:
            pieces.add("texts", len(done) - 1, done[-1])
    return _joined(done)


def _joined(parts: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.rows for part in parts]),
        [bad for part in parts for bad in part.skipped],
    )


def _reached(source: ImageSource, piece: Embeddings) -> int:
    """Find where a piece ends: past its last image, and past those skipped right after it."""
    skipped = {bad.id for bad in piece.skipped}
    position = int(piece.positions[-1]) + 1
    while position < len(source) and source.ids[position] in skipped:
        position += 1
    return position


def _continues(piece: Embeddings, covered: int) -> bool:
    """Tell whether a piece holds, but for those it skipped, the positions from `covered` on."""
    positions = piece.positions
    if not len(positions) or len(positions) != len(piece.rows):
        return False
    end = covered + len(positions) + len(piece.skipped)
    return bool(covered <= positions[0] and positions[-1] < end and (np.diff(positions) > 0).all())


def _read_piece(file: Path) -> Embeddings | None:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            if content.zip.testzip() is not None:
                return None
            bad = [BadImage(*pair) for pair in json.loads(str(content["skipped"]))]
            return Embeddings(content["positions"], content["rows"], bad)
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        return None


def _read_note(note: Path) -> object:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else [folder]
