import dataclasses
import json

import numpy as np
import pytest

from clipjax.classify import embedding_job
from clipjax.classify.embed import embed_images, embed_texts
from clipjax.classify.embedding_job import Embeddings, Pieces, job_of, resume_images, resume_texts
from clipjax.data.loader import BadImage
from clipjax.errors import DataError, OutputError
from clipjax.inputs.tokenizer import openai_tokenizer


class Stopped(Exception):
    """Stands for whatever stops a run."""


def stop_after(count, heard=None):
    """A progress hook that stops a run after some steps, and records how much work was announced."""

    def progress(items, *, total, label, unit="images", step=1):
        if heard is not None:
            heard.append(total)
        for number, item in enumerate(items):
            if number == count:
                raise Stopped
            yield item

    return progress


@pytest.fixture(autouse=True)
def every_batch_is_a_piece(monkeypatch):
    monkeypatch.setattr(embedding_job, "SECONDS_PER_PIECE", -1.0)
    monkeypatch.setattr(embedding_job, "TEXTS_PER_PIECE", 2)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "embeddings.npz"


JOB = {"weights": "w", "images": "i"}


def run_images(small, source, output, *, job=JOB, skip_bad=False, **options):
    model, params, _ = small
    return resume_images(model, params, source, Pieces(output, job), batch_size=2, skip_bad=skip_bad, **options)


def stop_images(small, source, output, count, **options):
    with pytest.raises(Stopped):
        run_images(small, source, output, progress=stop_after(count), **options)


def test_resumed_images_are_those_of_an_uninterrupted_run_bit_for_bit(small, pictures, output):
    source = pictures(7)
    model, params, _ = small
    whole, positions, _ = embed_images(model, params, source, batch_size=2)
    stop_images(small, source, output, 2)
    resumed = run_images(small, source, output)
    assert (resumed.rows == whole).all()
    assert (resumed.positions == positions).all()


def test_only_what_is_missing_is_encoded_again(small, pictures, output):
    stop_images(small, pictures(7), output, 2)
    heard = []
    run_images(small, pictures(7), output, progress=stop_after(99, heard))
    assert heard == [3]


def test_run_can_be_stopped_many_times(small, pictures, output):
    source = pictures(9)
    for _ in range(4):
        stop_images(small, source, output, 1)
    assert Pieces(output, JOB).count("images") == 8
    assert run_images(small, source, output).positions.tolist() == list(range(9))


def test_finished_images_are_not_encoded_again(small, pictures, output):
    whole = run_images(small, pictures(4), output)
    heard = []
    again = run_images(small, pictures(4), output, progress=stop_after(0, heard))
    assert heard == []
    assert (again.rows == whole.rows).all()


@pytest.mark.parametrize("count", [1, 2])
def test_skipped_images_are_listed_once_wherever_the_run_was_stopped(count, small, pictures, output):
    source = pictures(8, bad=(0, 3, 4, 6, 7))
    stop_images(small, source, output, count, skip_bad=True) if count == 1 else run_images(
        small, source, output, skip_bad=True
    )
    resumed = run_images(small, source, output, skip_bad=True)
    assert resumed.positions.tolist() == [1, 2, 5]
    assert [bad.id for bad in resumed.skipped] == [source.ids[i] for i in (0, 3, 4, 6, 7)]


def test_run_that_stopped_at_a_bad_image_goes_on_with_skip_bad(small, pictures, output):
    source = pictures(7, bad=[5])
    with pytest.raises(DataError, match="--skip-bad"):
        run_images(small, source, output)
    heard = []
    resumed = run_images(small, source, output, skip_bad=True, progress=stop_after(99, heard))
    assert resumed.positions.tolist() == [0, 1, 2, 3, 4, 6]
    assert heard[0] < 7


def test_skipped_images_of_a_stopped_run_are_an_error_without_skip_bad(small, pictures, output):
    source = pictures(7, bad=[1])
    stop_images(small, source, output, 2, skip_bad=True)
    with pytest.raises(DataError, match=r"000001 in memory.*--skip-bad"):
        run_images(small, source, output)


def test_resumed_texts_are_those_of_an_uninterrupted_run(small, output):
    model, params, tokenizer = small
    texts = ["a cat", "a dog", "an emu", "a cat", "a photo of a hen"]
    with pytest.raises(Stopped):
        resume_texts(model, params, tokenizer, texts, Pieces(output, JOB), progress=stop_after(1))
    heard = []
    resumed = resume_texts(model, params, tokenizer, texts, Pieces(output, JOB), progress=stop_after(99, heard))
    np.testing.assert_allclose(resumed.rows, embed_texts(model, params, tokenizer, texts), atol=1e-5)
    assert heard == [3]


def test_short_run_leaves_no_pieces(small, pictures, output, monkeypatch):
    monkeypatch.setattr(embedding_job, "SECONDS_PER_PIECE", 1e9)
    run_images(small, pictures(5), output)
    assert not list(output.parent.iterdir())


def test_removed_pieces_leave_nothing(small, pictures, output):
    run_images(small, pictures(4), output)
    Pieces(output, JOB).remove()
    assert not list(output.parent.iterdir())


def test_pieces_of_another_job_are_refused(small, pictures, output):
    stop_images(small, pictures(5), output, 1)
    with pytest.raises(OutputError, match=r"embeddings\.npz\.parts: holds a stopped run with other .*--overwrite"):
        Pieces(output, {**JOB, "weights": "others"})


def test_restart_throws_away_the_pieces_of_another_job(small, pictures, output):
    stop_images(small, pictures(5), output, 1)
    assert Pieces(output, {**JOB, "weights": "others"}, restart=True).load("images") == []


def test_restart_throws_away_the_pieces_of_the_same_job(small, pictures, output):
    stop_images(small, pictures(5), output, 1)
    assert Pieces(output, JOB, restart=True).count("images") == 0


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".thesis.partial-x"])
@pytest.mark.parametrize("restart", [False, True])
def test_directory_that_is_not_ours_is_never_touched(restart, name, output):
    parts = output.with_name("embeddings.npz.parts")
    parts.mkdir()
    (parts / name).touch()
    with pytest.raises(OutputError, match="was not written by clipjax"):
        Pieces(output, JOB, restart=restart)
    assert (parts / name).exists()


def test_directory_whose_note_was_never_finished_counts_as_empty(small, pictures, output):
    parts = output.with_name("embeddings.npz.parts")
    (parts / ".job.json.partial-x").mkdir(parents=True)
    assert len(run_images(small, pictures(4), output).rows) == 4
    assert not (parts / ".job.json.partial-x").exists()


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_damaged_piece_is_computed_again(damage, number, small, pictures, output):
    source = pictures(7)
    whole = run_images(small, source, output)
    damage(output.with_name("embeddings.npz.parts") / f"images-{number:06d}.npz")
    assert Pieces(output, JOB).count("images") == 2 * number
    resumed = run_images(small, source, output)
    assert (resumed.rows == whole.rows).all()
    assert (resumed.positions == whole.positions).all()


def test_pieces_after_a_missing_one_do_not_count(small, pictures, output):
    source = pictures(7)
    run_images(small, source, output)
    (output.with_name("embeddings.npz.parts") / "images-000001.npz").unlink()
    assert Pieces(output, JOB).count("images") == 2
    assert run_images(small, source, output).positions.tolist() == list(range(7))


def made_up(start, stop, skipped=()):
    bad = [BadImage(name, "bad") for name in skipped]
    return Embeddings(np.arange(start, stop), np.zeros((stop - start, 2), np.float32), bad)


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ([made_up(0, 6), made_up(10, 20)], 6),
        ([made_up(0, 12), made_up(10, 20)], 12),
        ([made_up(3, 6)], 0),
        ([made_up(0, 0)], 0),
        ([made_up(0, 6, ["6", "7"]), made_up(8, 10)], 8),
        ([made_up(2, 6, ["0", "1"]), made_up(6, 10)], 8),
        ([made_up(0, 6, ["6"]), made_up(8, 10)], 6),
    ],
)
def test_piece_that_does_not_begin_where_the_last_one_ends_is_dropped(pieces, kept, output):
    # two runs of one job at once write over each other's pieces
    for number, piece in enumerate(pieces):
        Pieces(output, JOB).add("images", number, piece)
    assert Pieces(output, JOB).count("images") == kept


def test_pieces_are_plain_numbers_and_json(small, pictures, output):
    run_images(small, pictures(3), output)
    parts = output.with_name("embeddings.npz.parts")
    assert json.loads((parts / "job.json").read_text()) == JOB
    with np.load(parts / "images-000000.npz", allow_pickle=False) as piece:
        assert sorted(piece) == ["positions", "rows", "skipped"]


@pytest.mark.parametrize("difference", ["weights", "model", "dtype", "images", "order", "texts", "tokenizer"])
def test_job_tells_apart_whatever_changes_the_embeddings(difference, small, pictures):
    model, params, tokenizer = small
    source, texts = pictures(3), ["a cat"]
    first = job_of(model, params, source, tokenizer, texts)
    if difference == "weights":
        params = {**params, "logit_scale": params["logit_scale"] + 1}
    elif difference == "model":
        model = model.replace(config=dataclasses.replace(model.config, mean=(0.0, 0.0, 0.0)))
    elif difference == "dtype":
        model = model.replace(dtype="bfloat16")
    elif difference == "images":
        source = pictures(3, seed=1)
    elif difference == "order":
        source = source.select([1, 0, 2])
    elif difference == "texts":
        texts = ["a dog"]
    else:
        tokenizer = dataclasses.replace(tokenizer, context_length=20)
    assert job_of(model, params, source, tokenizer, texts) != first


def test_job_of_the_same_things_is_the_same(small, pictures):
    model, params, _ = small
    assert job_of(model, params, pictures(3), openai_tokenizer(), ["a"]) == job_of(
        model, dict(params), pictures(3), openai_tokenizer(), ["a"]
    )
