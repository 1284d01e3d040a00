import json
import signal

import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.classify import embedding_job
from clipjax.classify.embed import embed_images, embed_texts
from clipjax.data.folder import open_folder
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.weights.load import load


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("a red panda\na tree\n")
    return path


@pytest.fixture
def embed(clipjax, checkpoint, tmp_path):
    """A function that embeds into a file of this test's directory and gives back the arrays."""

    def run(*arguments):
        result = clipjax("embed", "--weights", checkpoint, "-o", tmp_path / "e.npz", *arguments)
        assert result.status == 0, result
        with np.load(tmp_path / "e.npz", allow_pickle=False) as found:
            return dict(found)

    return run


def test_images_have_ids_labels_names_and_the_librarys_embeddings(embed, photos, checkpoint):
    found = embed("--images", photos)
    source = open_folder(photos)
    assert found["image_ids"].tolist() == source.ids
    assert found["image_labels"].tolist() == source.labels.tolist()
    assert found["image_classnames"].tolist() == source.classnames
    assert_allclose(found["image_embeddings"], embed_images(*load(checkpoint), source)[0], atol=1e-5)


def test_unlabelled_images_have_no_label_columns(embed, photos):
    assert sorted(embed("--images", photos / "red_panda")) == ["image_embeddings", "image_ids"]


def test_texts_are_their_own_ids(embed, texts, checkpoint):
    found = embed("--texts", texts)
    assert found["text_ids"].tolist() == ["a red panda", "a tree"]
    expected = embed_texts(*load(checkpoint), openai_tokenizer(), ["a red panda", "a tree"])
    assert_allclose(found["text_embeddings"], expected, atol=1e-5)


def test_images_and_texts_go_into_one_file(embed, photos, texts):
    assert {"image_embeddings", "text_embeddings"} <= set(embed("--images", photos, "--texts", texts))


def test_normalized_embeddings_have_unit_length(embed, photos, texts):
    found = embed("--images", photos, "--texts", texts, "--normalize")
    for kind in ("image", "text"):
        assert_allclose(np.linalg.norm(found[f"{kind}_embeddings"], axis=1), 1, rtol=1e-5)


def test_reduced_precision_is_close_but_not_the_same(embed, photos, tmp_path):
    exact = embed("--images", photos)["image_embeddings"]
    rounded = embed("--images", photos, "--dtype", "bfloat16", "--overwrite")["image_embeddings"]
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


def test_parquet_holds_the_same_numbers(embed, photos, clipjax, checkpoint, tmp_path):
    from pyarrow import parquet

    expected = embed("--images", photos)["image_embeddings"]
    clipjax("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.parquet")
    table = parquet.read_table(tmp_path / "e.parquet")
    assert (np.array(table["embedding"].to_pylist(), np.float32) == expected).all()
    assert table["classname"].to_pylist()[0] == "blue_sky"


def test_json_counts_rows_and_columns(clipjax, checkpoint, photos, texts, tmp_path):
    output = tmp_path / "e.npz"
    result = clipjax("embed", "--weights", checkpoint, "--images", photos, "--texts", texts, "-o", output, "--json")
    assert result.json == {"output": str(output), "images": 12, "texts": 2, "dim": 16, "skipped": []}
    assert result.err == ""


def test_skipped_images_are_counted_listed_and_left_out(clipjax, checkpoint, broken_photos, tmp_path):
    result = clipjax(
        "embed", "--weights", checkpoint, "--images", broken_photos, "-o", tmp_path / "e.npz", "--skip-bad", "--json"
    )
    assert [bad["id"] for bad in result.json["skipped"]] == ["green_tree/1.png", "red_panda/2.png"]
    assert "left out 2 images" in result.err and "red_panda/2.png" in result.err
    with np.load(tmp_path / "e.npz") as found:
        assert len(found["image_ids"]) == len(found["image_embeddings"]) == len(found["image_labels"]) == 10


def test_texts_longer_than_the_context_are_counted(clipjax, checkpoint, tmp_path):
    (tmp_path / "t.txt").write_text("short\n" + "word " * 40 + "\n")
    result = clipjax("embed", "--weights", checkpoint, "--texts", tmp_path / "t.txt", "-o", tmp_path / "e.npz")
    assert "1 of 2 texts were cut at the model's 16 tokens" in result.err


class Stopped(Exception):
    """Stands for a crash."""


@pytest.fixture
def stopped(monkeypatch, clipjax, checkpoint, photos, tmp_path):
    """A run that crashed after its second piece."""
    add = embedding_job.Pieces.add

    def crash(self, kind, number, piece):
        add(self, kind, number, piece)
        if number == 1:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(embedding_job, "SECONDS_PER_PIECE", -1.0)
        patch.setattr(embedding_job.Pieces, "add", crash)
        with pytest.raises(Stopped):
            clipjax("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.npz", "--batch-size", 4)
    assert not (tmp_path / "e.npz").exists()
    return tmp_path / "e.npz.parts"


def test_stopped_run_goes_on_says_so_and_cleans_up(stopped, embed, clipjax, checkpoint, photos, tmp_path):
    arguments = ("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.npz", "--batch-size", 4)
    result = clipjax(*arguments)
    assert "going on with a stopped run: 8 images are done already" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]
    resumed = (tmp_path / "e.npz").read_bytes()
    embed("--images", photos, "--batch-size", 4, "--overwrite")
    assert (tmp_path / "e.npz").read_bytes() == resumed


def test_overwrite_starts_anew(stopped, clipjax, checkpoint, photos, tmp_path):
    arguments = ("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.npz", "--batch-size", 4)
    assert "going on" not in clipjax(*arguments, "--overwrite").err
    assert not stopped.exists()


def test_interrupted_overwrite_says_how_to_go_on(clipjax, checkpoint, photos, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(embedding_job, "resume_images", interrupt)
    (tmp_path / "e.npz").touch()
    arguments = ("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.npz", "--overwrite")
    assert f"remove {tmp_path / 'e.npz'}, then run the same command without --overwrite" in clipjax(*arguments).err


def test_texts_that_a_npz_would_pad_are_refused_before_the_weights_are_read(clipjax, complains, tmp_path):
    (tmp_path / "t.txt").write_text("short\n" * 1000 + "x" * 100_000 + "\n")
    result = clipjax("embed", "--weights", tmp_path / "none", "--texts", tmp_path / "t.txt", "-o", tmp_path / "e.npz")
    complains(result, "t.txt: entry 1001", ".parquet")


@pytest.mark.parametrize("change", ["weights", "images", "dtype"])
def test_pieces_of_other_weights_images_and_options_are_refused(
    change, stopped, clipjax, complains, checkpoint, photos, tmp_path
):
    options = {"--weights": checkpoint, "--images": photos}
    if change == "weights":
        clipjax("convert", checkpoint, tmp_path / "other", "--dtype", "float16")
        options["--weights"] = tmp_path / "other"
    elif change == "images":
        options["--images"] = photos / "blue_sky"
    else:
        options["--dtype"] = "bfloat16"
    arguments = [part for option in options.items() for part in option]
    complains(clipjax("embed", *arguments, "-o", tmp_path / "e.npz"), stopped, "--overwrite")
    assert clipjax("embed", *arguments, "-o", tmp_path / "e.npz", "--overwrite").status == 0
    assert not stopped.exists()


def test_mistake_at_the_beginning_leaves_nothing_behind(clipjax, complains, checkpoint, tmp_path):
    complains(clipjax("embed", "--weights", checkpoint, "-o", tmp_path / "e.npz"), "--images, --texts or both")
    assert not list(tmp_path.iterdir())


def test_selection_by_manifest_columns(clipjax, checkpoint, shared_data, tmp_path):
    result = clipjax(
        "embed", "--weights", checkpoint, "--images", shared_data / "data/images/pacs.tar", "--where",
        "testbed=heldout-test", "--where", "classname=dog", "--where", "classname=guitar", "-o", tmp_path / "e.npz",
        "--json",
    )  # fmt: skip
    with np.load(tmp_path / "e.npz") as found:
        assert set(found["image_classnames"]) == {"dog", "guitar"}
        assert result.json["images"] == len(found["image_ids"]) < 331


def test_output_is_the_same_bytes_every_time(embed, photos, tmp_path):
    embed("--images", photos)
    first = (tmp_path / "e.npz").read_bytes()
    embed("--images", photos, "--overwrite")
    assert (tmp_path / "e.npz").read_bytes() == first


def test_pieces_note_is_json(stopped):
    assert set(json.loads((stopped / "job.json").read_text())) >= {"weights", "model", "images", "texts"}
