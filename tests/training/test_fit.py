import dataclasses
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_clip
from toy_stages import OPTIMIZER, Rows, assert_close, assert_same_bits, toy_stage

from clipjax.errors import ConfigError, Stopped, TrainingError
from clipjax.methods.contrastive import Contrastive, clamp_logit_scale
from clipjax.parallel.mesh import make_mesh
from clipjax.training.checkpoints import Keeping
from clipjax.training.fit import Pace, fingerprint, fit
from clipjax.training.metrics import JsonLines

EACH_STEP = Pace(log_every=1)


class Interruption(Exception):
    """Ends a run as rudely as an exception can."""


def at_step(step, action):
    """A sink that does something when a step is reported."""

    def sink(entry):
        if entry.step == step:
            action()

    return sink


def interrupt():
    raise Interruption


def signals(*numbers):
    def send():
        for number in numbers:
            os.kill(os.getpid(), number)

    return send


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(toy_stage())


@pytest.fixture(scope="module")
def all_checkpoints(tmp_path_factory, uninterrupted):
    """A finished run that kept a checkpoint every three steps."""
    folder = tmp_path_factory.mktemp("run") / "toy"
    fitted = fit(toy_stage(), folder=folder, keeping=Keeping(every=3, newest=9))
    assert_same_bits(fitted, uninterrupted)
    return folder


@pytest.mark.parametrize("boundary", [3, 6, 9, 12])
def test_a_run_resumed_at_a_checkpoint_ends_with_the_same_bits(tmp_path, uninterrupted, all_checkpoints, boundary):
    folder = shutil.copytree(all_checkpoints, tmp_path / "toy")
    for place in folder.iterdir():
        if int(place.name) > boundary:
            shutil.rmtree(place)
    steps = []
    resumed = fit(toy_stage(), folder=folder, pace=EACH_STEP, sinks=[lambda entry: steps.append(entry.step)])
    assert steps == list(range(boundary + 1, 13))
    assert_same_bits(resumed, uninterrupted)


def seen_seven(carry):
    return carry["seen"] >= 7


def test_a_stage_ends_when_its_carry_says_so_and_does_not_go_on_when_started_again(tmp_path):
    stage = toy_stage(until=seen_seven)
    whole = fit(stage)
    assert whole.steps == 7
    steps = []
    note = {"pace": EACH_STEP, "sinks": [lambda entry: steps.append(entry.step)], "keeping": Keeping(every=3, newest=9)}
    assert_same_bits(fit(stage, folder=tmp_path / "toy", **note), whole)
    assert steps == list(range(1, 8))
    assert_same_bits(fit(stage, folder=tmp_path / "toy", **note), whole)
    assert len(steps) == 7
    shutil.rmtree(tmp_path / "toy" / "7")
    assert_same_bits(fit(stage, folder=tmp_path / "toy", **note), whole)
    assert steps[7:] == [7]


def test_training_leaves_the_stage_as_it_was(uninterrupted):
    stage = toy_stage()
    first, second = fit(stage), fit(stage)
    assert_same_bits(second, first)
    np.testing.assert_array_equal(stage.trainable["head"]["kernel"], toy_stage().trainable["head"]["kernel"])


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4)])
def test_the_result_does_not_depend_on_the_mesh(uninterrupted, data, fsdp):
    mesh = make_mesh(data=data, fsdp=fsdp, devices=jax.devices()[: data * fsdp])
    assert_close(fit(toy_stage(), mesh=mesh), uninterrupted, 1e-5)


def test_a_run_goes_on_with_other_devices_and_another_mesh(tmp_path, uninterrupted):
    meshes = [
        make_mesh(),
        make_mesh(devices=jax.devices()[:2]),
        make_mesh(fsdp=2),
        make_mesh(devices=jax.devices()[1:2]),
    ]
    for mesh, last in zip(meshes, (3, 6, 9)):
        with pytest.raises(Interruption):
            fit(
                toy_stage(),
                mesh=mesh,
                folder=tmp_path / "toy",
                keeping=Keeping(every=3),
                pace=EACH_STEP,
                sinks=[at_step(last + 1, interrupt)],
            )
    steps = []
    sinks = [lambda entry: steps.append(entry.step)]
    fitted = fit(toy_stage(), mesh=meshes[-1], folder=tmp_path / "toy", pace=EACH_STEP, sinks=sinks)
    assert steps == [10, 11, 12]
    assert_close(fitted, uninterrupted, 1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_request_saves_and_the_run_goes_on_to_the_same_bits(tmp_path, uninterrupted, number):
    run = {"folder": tmp_path / "toy", "pace": EACH_STEP}
    with pytest.raises(Stopped, match="step 5 of 12"):
        fit(toy_stage(), sinks=[at_step(5, signals(number))], **run)
    assert [place.name for place in (tmp_path / "toy").iterdir()] == ["5"]
    assert_same_bits(fit(toy_stage(), **run), uninterrupted)


def test_a_stop_request_at_the_last_step_is_not_forgotten(tmp_path):
    with pytest.raises(Stopped):
        fit(toy_stage(), folder=tmp_path / "toy", pace=EACH_STEP, sinks=[at_step(12, signals(signal.SIGTERM))])


def test_a_second_interrupt_does_not_wait():
    with pytest.raises(KeyboardInterrupt):
        fit(toy_stage(), pace=EACH_STEP, sinks=[at_step(5, signals(signal.SIGINT, signal.SIGINT))])


def test_the_former_signal_handlers_come_back():
    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped):
        fit(toy_stage(), pace=EACH_STEP, sinks=[at_step(2, signals(signal.SIGTERM))])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == former


def test_metrics_hold_each_step_once_after_a_crash(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    run = {"folder": tmp_path / "toy", "keeping": Keeping(every=3), "pace": EACH_STEP}
    with pytest.raises(Interruption):
        fit(toy_stage(), sinks=[lines, at_step(5, interrupt)], **run)
    assert len(lines.path.read_text().splitlines()) == 5  # two steps past the checkpoint
    with lines.path.open("a") as file:
        file.write('{"stage": "toy", "st')  # killed within a line
    fit(toy_stage(), sinks=[lines], **run)
    entries = [json.loads(line) for line in lines.path.read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, 13))


def test_too_many_bad_steps_in_a_row_end_the_run(tmp_path):
    stage = toy_stage(batches=Rows(bad_steps=(4, 5, 6, 7)))
    with pytest.raises(TrainingError, match="3 steps in a row"):
        fit(stage, folder=tmp_path / "toy", keeping=Keeping(every=2), pace=Pace(patience=3))
    assert sorted(int(place.name) for place in (tmp_path / "toy").iterdir()) == [4, 6]  # and no later one


def test_bad_steps_within_the_patience_are_counted(uninterrupted):
    fitted = fit(toy_stage(batches=Rows(bad_steps=(4, 5, 7))), pace=Pace(patience=3))
    assert (fitted.skipped, fitted.steps) == (3, 12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted.trainable))


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="a batch of 6 does not divide over 4 devices; use 8"):
        fit(toy_stage(batches=Rows(batch_size=6)))


class Unread(Rows):
    fingerprint = Rows().fingerprint

    def batches(self, first_step=0, **place):
        raise AssertionError("a finished stage asks for no batch")


def test_a_finished_stage_is_only_read(uninterrupted, all_checkpoints):
    assert_same_bits(fit(toy_stage(batches=Unread()), folder=all_checkpoints), uninterrupted)


def test_a_folder_of_another_stage_is_refused(all_checkpoints):
    with pytest.raises(TrainingError, match=r"another stage .*--overwrite"):
        fit(toy_stage(steps=14), folder=all_checkpoints)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 13},
        {"seed": 1},
        {"batches": Rows(seed=1)},
        {"optimizer": dataclasses.replace(OPTIMIZER, lr=0.1)},
        {"after_update": None},
        {"tag": "another objective"},
        {"frozen": {"noise": jnp.float32(0.06)}},
        {"carry": {"seen": jnp.ones((), jnp.int32), "mean": jnp.zeros(2)}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_fingerprint_depends_on_all_that_the_result_depends_on(changes):
    assert fingerprint(toy_stage(**changes)) != fingerprint(toy_stage())
    assert fingerprint(toy_stage(**changes)) == fingerprint(toy_stage(**changes))


def test_the_fingerprint_does_not_depend_on_the_mesh():
    model, params = small_clip()

    def on(devices):
        mesh = make_mesh(devices=jax.devices()[:devices])
        stage = toy_stage(trainable=params, after_update=clamp_logit_scale)
        return dataclasses.replace(stage, objective=Contrastive(model, mesh, chunk=4))

    assert fingerprint(on(1)) == fingerprint(on(4))


@pytest.mark.parametrize("fields", [{"log_every": 0}, {"patience": 0}])
def test_a_senseless_pace_is_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Pace(**fields)


def test_entries_say_how_fast_it_goes():
    entries = []
    fit(toy_stage(), pace=Pace(log_every=5), sinks=[entries.append])
    assert [entry.step for entry in entries] == [5, 10, 12]
    for entry in entries:
        assert entry.values["rows_per_second"] * entry.values["step_seconds"] == pytest.approx(8)
        assert 0 <= entry.values["wait_share"] <= 1
