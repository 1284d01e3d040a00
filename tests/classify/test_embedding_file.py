import numpy as np
import pytest

from clipjax.classify.embedding_file import EmbeddingTable, check_ids, check_suffix, read_texts, write_embeddings
from clipjax.errors import DataError, OutputError

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def tables():
    columns = {"label": np.array([1, -1, 0]), "classname": ["dog", "", "cat"]}
    return [EmbeddingTable("image", ["a", "b", "ü"], ROWS, columns), EmbeddingTable("text", ["a cat"], ROWS[:1] + 9)]


def test_npz_holds_every_column_under_the_name_of_its_kind(tables, tmp_path):
    write_embeddings(tmp_path / "e.npz", tables)
    with np.load(tmp_path / "e.npz") as found:
        assert {name: array.tolist() for name, array in found.items()} == {
            "image_ids": ["a", "b", "ü"],
            "image_embeddings": ROWS.tolist(),
            "image_labels": [1, -1, 0],
            "image_classnames": ["dog", "", "cat"],
            "text_ids": ["a cat"],
            "text_embeddings": [[9.0, 10.0]],
        }


def test_npz_needs_no_pickle(tables, tmp_path):
    write_embeddings(tmp_path / "e.npz", tables)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as found:
        assert all(array.dtype.kind in "Ufi" for array in found.values())


def test_parquet_has_a_row_for_each_embedding(tables, tmp_path):
    from pyarrow import parquet

    write_embeddings(tmp_path / "e.parquet", tables)
    rows = parquet.read_table(tmp_path / "e.parquet").to_pylist()
    assert rows[1] == {"kind": "image", "id": "b", "embedding": [2.0, 3.0], "label": -1, "classname": ""}
    assert rows[3] == {"kind": "text", "id": "a cat", "embedding": [9.0, 10.0], "label": None, "classname": None}
    assert len(rows) == 4


def test_parquet_embeddings_become_a_matrix_at_once(tables, tmp_path):
    from pyarrow import parquet

    write_embeddings(tmp_path / "e.parquet", tables[:1])
    column = parquet.read_table(tmp_path / "e.parquet")["embedding"].combine_chunks()
    assert column.values.to_numpy().reshape(-1, 2).tolist() == ROWS.tolist()


def test_normalized_rows_have_unit_length(tables):
    table = tables[1].normalized()
    np.testing.assert_allclose(np.linalg.norm(table.rows, axis=1), 1, rtol=1e-6)
    assert table.ids == ["a cat"]


@pytest.mark.parametrize("name", ["e.csv", "e", "npz", "e.npz.txt"])
def test_name_without_a_format_is_an_error(name, tmp_path):
    with pytest.raises(OutputError, match=r"let it end in .npz or .parquet"):
        check_suffix(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_existing_file_stays_unless_it_may_be_replaced(suffix, tables, tmp_path):
    path = tmp_path / f"e{suffix}"
    path.write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        write_embeddings(path, tables)
    assert path.read_text() == "old"
    write_embeddings(path, tables, overwrite=True)
    assert path.stat().st_size > 100


def test_texts_are_lines_and_keep_their_spaces(tmp_path):
    (tmp_path / "t.txt").write_bytes("a cat\r\n a dog \nline\u2028separator\x0c".encode())
    assert read_texts(tmp_path / "t.txt") == ["a cat", " a dog ", "line\u2028separator\x0c"]


@pytest.mark.parametrize(("content", "reason"), [("", "write one on each line"), ("a\n\nb\n", "line 2 holds no text")])
def test_file_with_a_line_without_text_is_an_error(content, reason, tmp_path):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(DataError, match=rf"t\.txt: .*{reason}"):
        read_texts(tmp_path / "t.txt")


LOPSIDED = [*["short"] * 1000, "x" * 100_000]


def test_npz_that_would_be_mostly_padding_is_refused_with_the_entry_and_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"t\.txt: entry 1001 has 100,000 characters.* write a \.parquet"):
        check_ids(tmp_path / "e.npz", LOPSIDED, "t.txt")


def test_parquet_takes_texts_of_any_length(tmp_path):
    from pyarrow import parquet

    check_ids(tmp_path / "e.parquet", LOPSIDED, "t.txt")
    write_embeddings(tmp_path / "e.parquet", [EmbeddingTable("text", LOPSIDED, np.zeros((1001, 2), np.float32))])
    assert parquet.read_table(tmp_path / "e.parquet")["id"].to_pylist() == LOPSIDED


@pytest.mark.parametrize("ids", [[], ["x" * 100_000], ["x" * 100_000] * 1000, [*["short"] * 1000, "x" * 10_000]])
def test_npz_takes_texts_that_waste_little(ids, tmp_path):
    check_ids(tmp_path / "e.npz", ids, "t.txt")
