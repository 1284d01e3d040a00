import errno
import os
import shutil
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy_stages import assert_same_bits, leaves, toy_stage

from clipjax.errors import ConfigError, OutputError, TrainingError
from clipjax.training.checkpoints import Checkpoints, Keeping, StaleCheckpoint
from clipjax.training.fit import fit, initial

NOTE = {"stage": "toy", "fingerprint": "x"}


def state_at(step):
    """A state with numbers that tell the step."""
    state = initial(toy_stage())
    tree = jax.tree.map(lambda x: x + step if x.dtype == jnp.float32 else x, state.trainable)
    return jax.tree.map(jnp.asarray, state.__class__(**(vars(state) | {"step": jnp.int32(step), "trainable": tree})))


def shapes():
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), state_at(0))


ALL = Keeping(newest=9, best=1)


def write(folder, steps, keeping=ALL, note=NOTE, losses=None):
    checkpoints = Checkpoints(folder, keeping)
    for number, step in enumerate(steps):
        checkpoints.save(state_at(step), note, {"loss": losses[number] if losses else 1.0})
    checkpoints.close()


def read(folder, note=NOTE):
    checkpoints = Checkpoints(folder, ALL)
    try:
        return checkpoints.restore(shapes(), note)
    finally:
        checkpoints.close()


def assert_is(found, step):
    assert found is not None and found.step == step
    assert_same_bits(found, state_at(step))


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "toy"
    write(folder, [3, 6])
    return folder


def test_the_newest_checkpoint_is_read(two_checkpoints):
    assert_is(read(two_checkpoints), 6)


def test_an_empty_folder_holds_none(tmp_path):
    assert read(tmp_path / "toy") is None


def damaged(folder, tmp_path, change):
    """Copies of a folder, each with one file of its newest checkpoint changed; yields the copy and the file's name."""
    for number, file in enumerate(sorted(path for path in (folder / "6").rglob("*") if path.is_file())):
        copy = shutil.copytree(folder, tmp_path / str(number) / "toy")
        name = file.relative_to(folder)
        content = file.read_bytes()
        (copy / name).write_bytes(change(content, np.random.default_rng(number)))
        yield copy, name.as_posix()


def truncated(content, random):
    return content[: random.integers(len(content))]


def with_a_flipped_bit(content, random):
    flipped = bytearray(content)
    flipped[random.integers(len(content))] ^= 1 << random.integers(8)
    return bytes(flipped)


def without_content(content, random):
    return b""


@pytest.mark.parametrize("change", [truncated, with_a_flipped_bit, without_content])
def test_damage_to_any_file_falls_back_to_the_checkpoint_before(
    two_checkpoints, tmp_path, change, caplog, capfd, monkeypatch
):
    fell_back = 0
    for folder, name in damaged(two_checkpoints, tmp_path, change):
        caplog.clear()
        found = read(folder)
        aside = folder.parent / "damaged-toy-6"
        if aside.exists():
            assert_is(found, 3)
            assert [record for record in caplog.records if f"{folder}/6: is damaged" in record.getMessage()], name
            fell_back += 1
        else:  # what Orbax notes down for itself after all else, and does not need to restore
            assert name in ("6/_CHECKPOINT_METADATA", "6/commit_success.txt")
            assert_is(found, 6)
    assert fell_back > 8
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("part", ["state", "note", "files.json", "state/manifest.ocdbt"])
def test_a_missing_part_is_damage(two_checkpoints, tmp_path, part):
    folder = shutil.copytree(two_checkpoints, tmp_path / "toy")
    place = folder / "6" / part
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert_is(read(folder), 3)


def test_when_all_are_damaged_none_is_found_and_none_is_lost(two_checkpoints, tmp_path):
    folder = shutil.copytree(two_checkpoints, tmp_path / "toy")
    for step in ("3", "6"):
        (folder / step / "files.json").write_text("{")
    assert read(folder) is None
    assert sorted(place.name for place in tmp_path.iterdir()) == ["damaged-toy-3", "damaged-toy-6", "toy"]


def test_damage_to_the_same_step_twice_keeps_both(two_checkpoints, tmp_path):
    folder = shutil.copytree(two_checkpoints, tmp_path / "toy")
    for _ in range(2):
        (folder / "6" / "files.json").write_text("{")
        assert_is(read(folder), 3)
        write(folder, [6])
    assert {place.name for place in tmp_path.iterdir()} == {"toy", "damaged-toy-6", "damaged-toy-6-1"}
    assert_is(read(folder), 6)


def test_a_leaf_that_changed_between_device_and_file_is_damage(two_checkpoints, tmp_path, monkeypatch, caplog):
    def save(self, step, args, **options):
        trainable = args["state"].item["trainable"]
        trainable["head"]["kernel"] = trainable["head"]["kernel"].at[1, 1].add(1e-6)
        return original(self, step, args=args, **options)

    folder = shutil.copytree(two_checkpoints, tmp_path / "toy")
    original = ocp.CheckpointManager.save
    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    write(folder, [9])
    assert_is(read(folder), 6)
    assert "the checksum of trainable/head/kernel differs" in caplog.text


def test_a_run_with_a_damaged_newest_checkpoint_ends_with_the_same_bits(tmp_path, caplog):
    keeping = Keeping(every=4)
    wanted = fit(toy_stage(), folder=tmp_path / "toy", keeping=keeping)
    biggest = max((tmp_path / "toy" / "12").rglob("*"), key=lambda path: path.stat().st_size)
    biggest.write_bytes(with_a_flipped_bit(biggest.read_bytes(), np.random.default_rng(0)))
    assert_same_bits(fit(toy_stage(), folder=tmp_path / "toy", keeping=keeping), wanted)
    assert "is damaged" in caplog.text


def test_a_checkpoint_of_another_stage_is_refused_in_one_line(two_checkpoints):
    with pytest.raises(StaleCheckpoint, match=r"another stage \(fingerprint differs\)") as caught:
        read(two_checkpoints, NOTE | {"fingerprint": "y"})
    assert isinstance(caught.value, TrainingError)
    assert (two_checkpoints / "6").is_dir()


def test_whole_files_that_orbax_cannot_restore_are_kept(two_checkpoints, tmp_path, monkeypatch):
    def restore(self, step, **options):
        raise MemoryError("out of memory\nsecond line")

    folder = shutil.copytree(two_checkpoints, tmp_path / "toy")
    monkeypatch.setattr(ocp.CheckpointManager, "restore", restore)
    with pytest.raises(TrainingError, match="out of memory"):
        read(folder)
    assert (folder / "6").is_dir()


def steps_in(folder):
    return sorted(int(place.name) for place in folder.iterdir())


def test_the_newest_are_kept(tmp_path):
    write(tmp_path / "toy", [1, 2, 3, 4, 5], Keeping(newest=2))
    assert steps_in(tmp_path / "toy") == [4, 5]


def test_the_best_are_kept_beside_the_newest(tmp_path):
    write(tmp_path / "toy", [1, 2, 3, 4, 5], Keeping(newest=1, best=2), losses=[3.0, 1.0, 4.0, 2.0, float("nan")])
    assert steps_in(tmp_path / "toy") == [2, 4, 5]


def test_the_best_are_kept_across_restarts_and_larger_may_be_better(tmp_path):
    keeping = Keeping(newest=1, best=1, larger_is_better=True)
    write(tmp_path / "toy", [1, 2], keeping, losses=[0.9, 0.1])
    write(tmp_path / "toy", [3, 4], keeping, losses=[0.2, 0.3])
    assert steps_in(tmp_path / "toy") == [1, 4]


def test_best_by_a_metric_that_there_is_not_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"'accuracy'.*largest"):
        fit(toy_stage(), folder=tmp_path / "toy", keeping=Keeping(best=1, metric="accuracy"))


@pytest.mark.parametrize("fields", [{"every": 0}, {"newest": 0}, {"best": -1}])
def test_senseless_keeping_is_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Keeping(**fields)


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 990, 10))
    with pytest.raises(OutputError, match="the disk is full") as caught:
        fit(toy_stage(), folder=tmp_path / "toy")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "toy").iterdir()) == []


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_when_a_checkpoint_begins_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        fit(toy_stage(), folder=tmp_path / "toy")
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_in_the_background_is_one_line_and_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("clipjax.training.manifest.write", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        fit(toy_stage(), folder=tmp_path / "toy")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert read(tmp_path / "toy") is None


def test_what_was_being_written_is_never_picked_up(two_checkpoints, tmp_path):
    folder = shutil.copytree(two_checkpoints, tmp_path / "toy")
    write(tmp_path / "other", [9])
    (tmp_path / "other" / "9").rename(folder / "9.orbax-checkpoint-tmp")
    assert_is(read(folder), 6)  # orbax removes it, sooner or later


def test_a_note_of_the_versions_is_kept(two_checkpoints):
    note = (two_checkpoints / "6" / "note" / "metadata").read_text()
    assert jax.__version__ in note and "orbax-checkpoint" in note


def test_saving_a_step_again_changes_nothing(tmp_path):
    write(tmp_path / "toy", [3, 3])
    assert_is(read(tmp_path / "toy"), 3)
    assert leaves(read(tmp_path / "toy"))["trainable/logit_scale"] == 3
