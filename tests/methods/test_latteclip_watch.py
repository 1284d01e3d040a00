"""When LatteCLIP stops by itself: the rule against a loop in plain Python, and inside a run."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import clipjax
from clipjax.methods.latteclip.step import _entropy
from clipjax.methods.latteclip.watch import (
    Stopping,
    agreement_so_far,
    last_epoch,
    told_to_stop,
    unwatched,
    watch,
)
from clipjax.texts.collected import Texts

STEPS = 3
PATIENT = Stopping(patience=2, gain=0.01)


def watched_after(epochs, stopping=PATIENT, skipped=()):
    """Watch epochs given as (agreement, entropy, drift at the end), and return the state after each."""
    state, states = unwatched(), []
    for number, (agreement, entropy, drift) in enumerate(epochs):
        for step, off in enumerate((-0.02, 0.0, 0.02)):  # steps differ, their mean is the epoch's
            if number * STEPS + step in skipped:
                continue
            ends = jnp.asarray(step + 1 == STEPS)
            signs = (jnp.float32(agreement + off), jnp.float32(entropy), jnp.float32(drift if ends else 9.9))
            state = watch(state, *signs, epoch=jnp.int32(number), epoch_ends=ends, stopping=stopping)
        states.append(state)
    return states


def stops_at(agreements, stopping=PATIENT):
    """The rule, as the documentation says it: the number of the epoch that is the last."""
    without = 0
    for number, agreement in enumerate(agreements):
        best = max(agreements[:number], default=-1.0)
        without = 0 if agreement >= best + stopping.gain else without + 1
        if without >= stopping.patience or agreement < best - stopping.most_fall:
            return number
    return None


@pytest.mark.parametrize("seed", range(8))
def test_it_stops_when_agreement_has_not_grown_for_some_epochs_or_falls(seed):
    draw = np.random.default_rng(seed)
    agreements = (0.5 + np.cumsum(draw.normal(0.01, 0.03, 12))).tolist()
    states = watched_after([(a, 0.7, 0.1) for a in agreements])
    told = [number for number, state in enumerate(states) if told_to_stop({"watched": state})]
    assert (told[0] if told else None) == stops_at(agreements)


def test_an_epoch_is_judged_by_the_mean_of_its_steps_and_by_where_it_ends():
    state = watched_after([(0.5, 0.7, 0.1), (0.6, 0.4, 0.2)])[-1]
    assert_allclose([state[name] for name in ("agreement", "mixer_entropy", "drift")], [0.6, 0.4, 0.2], rtol=1e-5)
    assert not told_to_stop({"watched": state})


def test_steps_that_were_skipped_have_no_part():
    epochs = [(0.6, 0.7, 0.1)] * 4
    whole = watched_after(epochs)[-1]
    assert_allclose(agreement_so_far(watched_after(epochs[:1], skipped=[1])[-1]), 0.6, rtol=1e-5)
    # an epoch without its last step is not judged, and does not run into the next one
    some = watched_after(epochs, dataclasses.replace(PATIENT, patience=4), skipped=[5])[-1]
    assert int(some["epochs"]) == 3 and int(whole["epochs"]) == 4
    assert_allclose(some["agreement"], 0.6, rtol=1e-5)
    assert not told_to_stop({"watched": some})


def test_before_an_epoch_has_ended_nothing_is_said_of_one():
    assert last_epoch(unwatched()) == {}
    assert last_epoch(watched_after([(0.5, 0.7, 0.1)])[-1]) == {"agreement": 0.5, "mixer_entropy": 0.7, "drift": 0.1}


@pytest.mark.parametrize(("rows", "kinds", "entropy"), [
    ([[1 / 3, 1 / 3, 1 / 3]], 3, 1), ([[0.0, 0.5, 0.5]], 2, 1), ([[0.0, 0, 1]], 1, 1), ([[1.0, 0, 0]], 3, 0),
])  # fmt: skip
def test_entropy_is_one_where_all_kinds_count_alike_however_many_there_are(rows, kinds, entropy):
    assert_allclose(_entropy(jnp.asarray(rows), kinds), entropy, atol=1e-6)


@pytest.mark.parametrize(
    "sign", [(0.39, 0.7, 0.1), (0.9, 0.04, 0.1), (0.9, 0.7, 0.6)], ids=["fall", "entropy", "drift"]
)
def test_what_goes_wrong_ends_a_run_at_once(sign):
    good = (0.5, 0.7, 0.1)
    assert told_to_stop({"watched": watched_after([good, sign])[-1]})
    assert not told_to_stop({"watched": watched_after([good, sign], dataclasses.replace(PATIENT, patience=0))[-1]})


@pytest.fixture
def written(problem):
    of_all = {(name,): ("a picture of something",) for name in problem.images.ids}
    texts = Texts({"caption": of_all, "group_caption": of_all})
    return dataclasses.replace(problem, shots=None, texts=texts)


def test_a_run_without_progress_ends_early_and_says_what_it_saw(written):
    settings = {"epochs": 6, "batch_size": 12, "optimizer": {"lr": 0.0}, "alpha": 0.0, "jitter": 0.0, "grayscale": 0.0}
    whole, early = (clipjax.adapt("latteclip", written, **settings, crop=1.0, stopping={"patience": p}) for p in (0, 1))
    assert whole.provenance["steps"] == 12
    assert early.provenance["steps"] == 4  # the first epoch sets the mark, the second does not pass it
    assert set(early.provenance["last_epoch"]) == {"agreement", "drift", "mixer_entropy"}
