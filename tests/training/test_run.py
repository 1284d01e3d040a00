import dataclasses
import io
import json
import logging
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image
from toy_stages import OPTIMIZER, Rows, assert_same_bits, toy_stage

from clipjax.data import worker_processes
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import memory_source
from clipjax.data.views import eval_view
from clipjax.errors import OutputError, TrainingError
from clipjax.training.checkpoints import Keeping
from clipjax.training.fit import Pace, fit
from clipjax.training.run import Run, open_run

IDENTITY = {"method": "finetune", "config": "Config(epochs=3)", "images": 12}


@pytest.fixture
def encoded_images():
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    return [buffer.getvalue()] * 12


class Counted:
    """Work that counts how often it is done."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return {"scores": np.arange(6.0).reshape(2, 3), "rows": [1, 2], "count": self.times}


def test_work_is_done_once_for_equal_dependencies(tmp_path):
    work = Counted()
    results = [Run(tmp_path).once("scores", work, depends=("weights", 3)) for _ in range(2)]
    assert work.times == 1
    assert results[0].keys() == results[1].keys() == {"scores", "rows", "count"}
    for name, value in results[0].items():
        np.testing.assert_array_equal(results[1][name], value)


def test_work_is_done_again_when_what_it_depends_on_has_changed(tmp_path):
    work, run = Counted(), Run(tmp_path)
    run.once("scores", work, depends="weights")
    assert run.once("scores", work, depends="other weights")["count"] == 2
    assert run.once("scores", work, depends="other weights")["count"] == 2


def test_work_of_another_name_is_stored_apart(tmp_path):
    work, run = Counted(), Run(tmp_path)
    run.once("scores", work, depends="weights")
    run.once("seeds", work, depends="weights")
    assert run.once("scores", work, depends="weights")["count"] == 1


def test_without_a_folder_work_is_always_done():
    work = Counted()
    assert [int(Run().once("scores", work, depends="weights")["count"]) for _ in range(2)] == [1, 2]


def test_work_that_failed_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Run(tmp_path).once("scores", fail, depends="weights")
    assert list(tmp_path.rglob("*.npz")) == []


def test_a_result_cut_off_anywhere_is_made_again(tmp_path):
    work, run = Counted(), Run(tmp_path)
    run.once("scores", work, depends="weights")
    [path] = tmp_path.rglob("*.npz")
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        before = work.times
        run.once("scores", work, depends="weights")
        assert work.times == before + 1


def test_a_result_with_a_changed_byte_is_the_same_or_made_again(tmp_path):
    work, run = Counted(), Run(tmp_path)
    wanted = run.once("scores", work, depends="weights")
    [path] = tmp_path.rglob("*.npz")
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0x41
        path.write_bytes(bytes(changed))
        found = run.once("scores", work, depends="weights")
        for name in ("scores", "rows"):
            np.testing.assert_array_equal(found[name], wanted[name])
            assert found[name].dtype == wanted[name].dtype
        path.write_bytes(content)


def test_pickled_objects_are_not_executed(tmp_path):
    run = Run(tmp_path)
    (tmp_path / "once").mkdir()
    with zipfile.ZipFile(tmp_path / "once" / "scores.npz", "w") as archive:
        archive.writestr("_key.npy", b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    assert run.once("scores", Counted(), depends="weights")["count"] == 1


def test_a_run_is_reopened_with_the_same_identity(tmp_path):
    for _ in range(2):
        run = open_run(tmp_path / "run", IDENTITY, pace=Pace(log_every=3))
    assert run.folder == tmp_path / "run"
    assert run.pace.log_every == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == IDENTITY


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_run_is_refused_naming_what_differs_unless_it_may_be_replaced(tmp_path, overwrite):
    open_run(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    changed = IDENTITY | {"config": "Config(epochs=4)"}
    if overwrite:
        open_run(tmp_path / "run", changed, overwrite=True)
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    else:
        with pytest.raises(OutputError, match=r"config was .*epochs=3.* now .*epochs=4.*--overwrite"):
            open_run(tmp_path / "run", changed)


def test_a_value_that_was_not_there_before_is_another_run(tmp_path):
    open_run(tmp_path / "run", IDENTITY)
    with pytest.raises(OutputError, match="texts was null"):
        open_run(tmp_path / "run", IDENTITY | {"texts": "x"})


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_something_else_is_never_touched(tmp_path, overwrite):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(OutputError, match="holds no run of clipjax"):
        open_run(tmp_path, IDENTITY, overwrite=overwrite)
    assert (tmp_path / "photo.jpg").read_bytes() == b"precious"


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        open_run(tmp_path / "run", IDENTITY)


def test_an_empty_directory_may_become_a_run(tmp_path):
    assert open_run(tmp_path, IDENTITY).folder == tmp_path


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_damaged_note_is_one_line(tmp_path, content):
    open_run(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "run.json").write_bytes(content)
    with pytest.raises(OutputError, match="--overwrite"):
        open_run(tmp_path / "run", IDENTITY)


def test_a_bucket_is_no_path():
    with pytest.raises(OutputError, match="mount the bucket"):
        open_run("gs://bucket/run", IDENTITY)


def test_the_same_run_goes_on_though_it_may_be_replaced(tmp_path):
    # a scheduler repeats the command as it was
    open_run(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    open_run(tmp_path / "run", IDENTITY, overwrite=True)
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_a_run_reads_is_not_removed_with_an_old_one(tmp_path):
    open_run(tmp_path / "run", IDENTITY)
    weights = tmp_path / "run" / "model"
    weights.mkdir()
    with pytest.raises(OutputError, match="is or holds"):
        open_run(tmp_path / "run", IDENTITY | {"images": 3}, overwrite=True, made_from=[weights])
    assert weights.is_dir()


def test_the_working_directory_is_not_removed(tmp_path, monkeypatch):
    open_run(tmp_path / "run", IDENTITY)
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(OutputError, match="working directory"):
        open_run(tmp_path / "run", IDENTITY | {"images": 3}, overwrite=True)


def test_a_difference_is_named_by_the_setting(tmp_path):
    nested = IDENTITY | {"config": {"optimizer": {"lr": 0.1}, "seed": 0}}
    open_run(tmp_path / "run", nested)
    with pytest.raises(OutputError, match=r"config\.optimizer\.lr was 0\.1, now 0\.2"):
        open_run(tmp_path / "run", IDENTITY | {"config": {"optimizer": {"lr": 0.2}, "seed": 0}})


def test_a_difference_deep_inside_a_long_text_is_shown(tmp_path):
    long = "CLIP(" + "x=1, " * 40
    open_run(tmp_path / "run", IDENTITY | {"model": long + "width=96)"})
    with pytest.raises(OutputError, match=r"model was \.\.\..*width=96.* now .*width=48"):
        open_run(tmp_path / "run", IDENTITY | {"model": long + "width=48)"})


def test_bfloat16_comes_back_as_the_numbers_it_was(tmp_path):
    run = Run(tmp_path)
    values = jax.numpy.asarray([1.5, 2.25], "bfloat16")
    for _ in range(2):
        found = run.once("rows", lambda: {"rows": values}, depends=1)["rows"]
        assert (found.dtype, found.tolist()) == (np.float32, [1.5, 2.25])


def test_a_run_stores_its_stage_and_its_metrics(tmp_path):
    run = open_run(tmp_path / "run", IDENTITY, keeping=Keeping(every=6), pace=Pace(log_every=4))
    fitted = run.fit(toy_stage())
    assert_same_bits(fitted, fit(toy_stage()))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]
    assert sorted(place.name for place in (tmp_path / "run" / "stages" / "toy").iterdir()) == ["12", "6"]


def test_a_stage_whose_inputs_changed_starts_anew(tmp_path, caplog):
    changed = dataclasses.replace(OPTIMIZER, lr=0.01)
    run = Run(tmp_path, pace=Pace(log_every=6))
    run.fit(toy_stage())
    with caplog.at_level(logging.WARNING):
        fitted = run.fit(toy_stage(optimizer=changed))
    assert "has changed; it starts anew" in caplog.text
    assert_same_bits(fitted, fit(toy_stage(optimizer=changed)))
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [6, 12]


def test_other_errors_of_a_stage_remove_nothing(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.fit(toy_stage())

    def broken(*arguments, **options):
        raise TrainingError("something else")

    monkeypatch.setattr("clipjax.training.checkpoints.Checkpoints.restore", broken)
    with pytest.raises(TrainingError, match="something else"):
        run.fit(toy_stage())
    assert (tmp_path / "stages" / "toy" / "12").is_dir()


def test_a_runs_workers_change_nothing_of_its_stages(encoded_images, monkeypatch, tmp_path):
    rows = next(Rows(batch_size=12).batches())
    source = memory_source(encoded_images)
    stage = toy_stage(batches=ImageBatches(source, Shuffled(12, 0), eval_view(2), 8, 0, columns=rows))
    started, made_by_workers = [], worker_processes.made_by_workers

    def counted(make, first, workers):
        started.append(workers)
        return made_by_workers(make, first, workers)

    monkeypatch.setattr(worker_processes, "made_by_workers", counted)
    assert_same_bits(Run(tmp_path, workers=2).fit(stage), fit(stage))
    assert started == [2]
    Run(tmp_path).fit(stage)  # without workers it is the same stage, and done
    assert not list((tmp_path / "stages").glob("before-*"))


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Run().fit(toy_stage())
    assert list(tmp_path.iterdir()) == []
