import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipjax.data.samplers import ClassBalanced, NumberedGenerator, Sequential, Shuffled, Weighted, generator
from clipjax.errors import DataError

LABELS = np.array([0] * 7 + [1] * 2 + [2] * 3)
SAMPLERS = {
    "sequential": Sequential(12),
    "shuffled": Shuffled(12, 3),
    "balanced": ClassBalanced(LABELS, 3),
    "weighted": Weighted(np.arange(12), 3),
}


def drawn(sampler, count, first=0):
    return sampler(np.arange(first, first + count)).tolist()


@settings(deadline=None)  # the machine may be busy
@given(size=st.integers(1, 40), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_shuffled_epoch_holds_every_image_once(size, seed, epoch):
    assert sorted(drawn(Shuffled(size, seed), size, epoch * size)) == list(range(size))


def test_shuffled_order_is_new_in_every_epoch():
    sampler = Shuffled(50, 0)
    assert drawn(sampler, 50) != drawn(sampler, 50, first=50)


def test_shuffled_order_follows_the_seed():
    assert drawn(Shuffled(50, 0), 50) != drawn(Shuffled(50, 1), 50)


def test_sequential_keeps_the_order_and_begins_anew():
    assert drawn(Sequential(3), 7) == [0, 1, 2, 0, 1, 2, 0]


WHOLE = {name: drawn(sampler, 501) for name, sampler in SAMPLERS.items()}


@pytest.mark.parametrize("name", SAMPLERS)
@settings(deadline=None)  # the machine may be busy
@given(positions=st.lists(st.integers(0, 500), min_size=1, max_size=8))
def test_index_depends_on_the_position_alone(name, positions):
    sampler = SAMPLERS[name]
    assert sampler(np.array(positions)).tolist() == [WHOLE[name][position] for position in positions]


@settings(deadline=None)  # the machine may be busy
@given(rounds=st.integers(1, 30))
def test_balanced_round_has_one_image_of_every_class(rounds):
    labels = LABELS[drawn(ClassBalanced(LABELS, 0), 3 * rounds)]
    assert np.array_equal(np.sort(labels.reshape(rounds, 3)), np.tile([0, 1, 2], (rounds, 1)))


def test_balanced_class_gives_all_its_images_before_any_again():
    indices = np.array(drawn(ClassBalanced(LABELS, 0), 3 * 14))
    assert sorted(indices[LABELS[indices] == 0]) == sorted([*range(7)] * 2)
    assert sorted(indices[LABELS[indices] == 1]) == [7] * 7 + [8] * 7


def test_balanced_never_draws_an_image_of_unknown_class():
    labels = np.array([-1, 0, -1, 1, 1])
    assert set(drawn(ClassBalanced(labels, 0), 40)) == {1, 3, 4}


def test_balanced_class_without_image_is_named():
    with pytest.raises(DataError, match=r"class 'bat' \(and 1 more\) has no image"):
        ClassBalanced(np.array([0, 2]), 0, classnames=["ant", "bat", "cat", "dog"])


def test_balanced_needs_labels():
    with pytest.raises(DataError, match="not one of 2 images has a class"):
        ClassBalanced(np.array([-1, -1]), 0)


def test_weighted_draws_in_proportion_and_never_weight_zero():
    counts = np.bincount(drawn(Weighted([0, 1, 3, 0], 5), 4000), minlength=4)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert counts[2] / counts[1] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("weights", [[1, -1], [1, np.nan], [0, 0]])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(DataError):
        Weighted(weights, 0)


def test_no_images_cannot_be_drawn_from():
    with pytest.raises(DataError, match="no images"):
        Shuffled(0, 0)


@pytest.mark.parametrize(
    "other",
    [Shuffled(12, 4), Shuffled(13, 3), ClassBalanced(LABELS[::-1], 3), ClassBalanced(LABELS, 4), Weighted([1], 3)],
)
def test_fingerprints_tell_samplers_apart(other):
    assert other.fingerprint not in {sampler.fingerprint for sampler in SAMPLERS.values()}


def test_equal_samplers_have_equal_fingerprints():
    assert ClassBalanced(LABELS, 3).fingerprint == ClassBalanced(LABELS.tolist(), 3).fingerprint


def test_streams_and_numbers_have_random_numbers_of_their_own():
    draws = {generator(*key).random() for key in [(0, 0), (1, 0), (0, 1), (0, 0, 1), (0, 0, 2**32)]}
    assert len(draws) == 5


def test_generator_can_be_set_back_to_any_number():
    numbered = NumberedGenerator(7, stream=3)
    first = numbered.at(5).integers(100, size=9).tolist()
    numbered.at(6).normal(size=5)
    assert numbered.at(5).integers(100, size=9).tolist() == first
    assert generator(7, 5, 3).integers(100, size=9).tolist() == first
