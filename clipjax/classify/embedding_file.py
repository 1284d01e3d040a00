"""The files that texts come from and embeddings go to: .npz for NumPy, .parquet for everything else."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from clipjax.data.textfile import read_text
from clipjax.errors import DataError, OutputError
from clipjax.outputs import new_file

SUFFIXES = (".npz", ".parquet")

MOST_PADDING = 2**28
"""Bytes up to which the ids of a .npz may be mostly padding."""

_BYTES_PER_CHARACTER = 4


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings of one kind with the ids they belong to.

    `columns` says more about each row, under names in the singular: `label`, `classname`.
    """

    kind: Literal["image", "text"]
    ids: Sequence[str]
    rows: Float[np.ndarray, "n dim"]
    columns: Mapping[str, Sequence[Any] | np.ndarray] = field(default_factory=dict)

    def normalized(self) -> "EmbeddingTable":
        """Scale the embeddings to unit length."""
        return dataclasses.replace(self, rows=self.rows / np.linalg.norm(self.rows, axis=1, keepdims=True))


def read_texts(path: Path) -> list[str]:
    """Read texts, one on each line.

    Raises:
      DataError: the file cannot be read, is not UTF-8, has no line or an empty one.
    """
    # not splitlines: other programs count no line at a form feed or a Unicode separator
    lines = [line.removesuffix("\r") for line in read_text(path).removesuffix("\n").split("\n")]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            remedy = "write one on each line" if len(lines) == 1 else "remove it, since rows are counted by lines"
            raise DataError(f"{path}: line {number} holds no text; {remedy}")
    return lines


def check_suffix(path: Path) -> None:
    """Refuse a name that says nothing about the format.

    Raises:
      OutputError: it ends in neither .npz nor .parquet.
    """
    if path.suffix not in SUFFIXES:
        raise OutputError(f"{path}: the name says no format; let it end in .npz or .parquet")


def check_ids(path: Path, ids: Sequence[str], name: str | None) -> None:
    """Refuse early what only a .parquet stores well: an array of NumPy pads every text to the longest.

    Raises:
      DataError: `path` is a .npz that would be mostly padding, and large; `name` says where the ids are from.
    """
    longest = max(map(len, ids), default=0)
    padded = _BYTES_PER_CHARACTER * longest * len(ids)
    if path.suffix == ".npz" and padded > max(MOST_PADDING, 8 * _BYTES_PER_CHARACTER * sum(map(len, ids))):
        number = 1 + next(place for place, text in enumerate(ids) if len(text) == longest)
        raise DataError(
            f"{name}: entry {number} has {longest:,} characters, and a .npz would pad all {len(ids):,} to that "
            f"({padded / 1e6:,.0f} MB); shorten it, or write a .parquet"
        )


def write_embeddings(path: Path, tables: Sequence[EmbeddingTable], *, overwrite: bool = False) -> None:
    """Write tables to one file.

    A .npz holds an array for each column: `image_ids`, `image_embeddings`, `image_labels` and so on.
    A .parquet has a row for each embedding, with `kind`, `id`, `embedding`, `label` and so on.

    Raises:
      OutputError: the file exists and `overwrite` is false, or cannot be written.
    """
    check_suffix(path)
    with new_file(path, overwrite=overwrite) as staged:
        if path.suffix == ".npz":
            arrays = {f"{table.kind}_{name}": column for table in tables for name, column in _arrays(table).items()}
            with staged.open("wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        else:
            _write_parquet(staged, tables)


def _arrays(table: EmbeddingTable) -> dict[str, np.ndarray]:
    further = {f"{name}s": np.asarray(column) for name, column in table.columns.items()}
    return {"ids": np.array(table.ids, np.str_), "embeddings": table.rows, **further}


def _write_parquet(path: Path, tables: Sequence[EmbeddingTable]) -> None:
    import pyarrow
    import pyarrow.parquet

    parts = []
    for table in tables:
        embedding = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(table.rows.reshape(-1)), table.rows.shape[1])
        kinds, ids = pyarrow.array([table.kind] * len(table.ids)), pyarrow.array(list(table.ids))
        further = {name: pyarrow.array(column) for name, column in table.columns.items()}
        parts.append(pyarrow.table({"kind": kinds, "id": ids, "embedding": embedding, **further}))
    # columns that only one kind has are null for the other
    pyarrow.parquet.write_table(pyarrow.concat_tables(parts, promote_options="default"), path)
