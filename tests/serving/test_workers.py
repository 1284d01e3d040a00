"""Batches of images on devices, without HTTP."""

import threading
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import small_clip

from clipjax.classify.arrays import score_pixels
from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.errors import ConfigError
from clipjax.serving.workers import Busy, Workers, batch_sizes


def classifier_of(features="embedding"):
    model, params = small_clip()
    dim = model.config.embed_dim if features == "embedding" else model.config.vision.width
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, dim)), jnp.float32)
    return Classifier(model, params, ("a", "b", "c"), weights, features=features)


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)


def one(workers, pixels):
    """Ask for the answer to one image."""
    return workers.submit([pixels])[0]


@pytest.fixture(scope="module")
def workers():
    made = Workers(classifier_of(), batch_size=8, devices=jax.devices()[:2])
    yield made
    made.close()


def test_every_image_gets_its_own_answer_whatever_came_with_it(workers):
    images = pictures(70)
    wanted = np.asarray(score_pixels(workers.classifier, images))
    found = {}

    def ask(start):
        for place in range(start, 70, 7):
            found[place] = one(workers, images[place])

    threads = [threading.Thread(target=ask, args=[start]) for start in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_allclose([found[n].result(60).scores for n in range(70)], wanted, rtol=1e-4, atol=1e-5)


def test_the_embedding_is_the_model_s_own_also_under_a_head_on_pooled_features():
    classifier, image = classifier_of("pooled"), pictures(1)
    workers = Workers(classifier, batch_size=1, devices=jax.devices()[:1])
    answer = one(workers, image[0]).result(60)
    workers.close()
    plain = Workers(classifier_of(), batch_size=1, devices=jax.devices()[:1])
    assert_allclose(answer.embedding, one(plain, image[0]).result(60).embedding, rtol=1e-5)
    plain.close()


def test_a_vote_has_scores_and_no_embedding():
    ensemble = Ensemble((classifier_of(), classifier_of("pooled")))
    workers = Workers(ensemble, batch_size=1, devices=jax.devices()[:1])
    answer = one(workers, pictures(1)[0]).result(60)
    workers.close()
    assert answer.embedding is None
    assert_allclose(answer.scores, score_pixels(ensemble, pictures(1))[0], rtol=1e-5, atol=1e-6)


def test_a_bad_image_spoils_its_own_batch_and_not_the_worker(workers):
    with pytest.raises(ConfigError, match="images have shape"):
        one(workers, np.zeros((3, 3, 3), np.uint8)).result(60)
    assert one(workers, pictures(1)[0]).result(60).scores.shape == (3,)


def test_a_batch_that_cannot_be_put_together_fails_and_raises_nothing_in_the_thread(workers):
    batch = [(np.zeros((side, side, 3), np.uint8), Future()) for side in (16, 3)]
    assert workers._started({}, batch) is None
    for _, answer in batch:
        with pytest.raises(ValueError):
            answer.result(0)


def test_only_so_many_may_wait():
    workers = Workers(classifier_of(), batch_size=1, most_waiting=2, devices=jax.devices()[:1])
    workers.close()
    for _ in range(2):
        one(workers, pictures(1)[0])
    with pytest.raises(Busy):
        one(workers, pictures(1)[0])


def test_of_several_images_all_wait_or_none():
    workers = Workers(classifier_of(), batch_size=1, most_waiting=2, devices=jax.devices()[:1])
    workers.close()
    with pytest.raises(Busy):
        workers.submit(pictures(3))
    assert workers.waiting == 0
    assert len(workers.submit(pictures(2))) == workers.waiting == 2


@pytest.mark.parametrize(("free", "seen"), [(0, [3, 2, 1]), (1, [3, 3, 3])])
def test_a_busy_device_leaves_images_to_one_that_is_free(free, seen):
    workers = Workers(classifier_of(), batch_size=8, devices=jax.devices()[:1])
    workers.close()
    workers.submit(pictures(3))
    waited, batch = [], []

    class Computed:
        def is_ready(self):
            waited.append(workers.waiting)
            return len(waited) > 3

    workers._free = free
    workers._gather(batch, Computed())
    assert (waited[:3], len(batch)) == (seen, 3)


def test_a_device_that_waits_for_images_is_free(monkeypatch):
    workers, seen = Workers(classifier_of(), batch_size=1, devices=jax.devices()[:1]), []
    workers.close()
    monkeypatch.setattr(workers, "_take", lambda batch, timeout: seen.append(workers._free))
    workers._gather([], None)
    assert (seen, workers._free) == ([1], 0)


def test_closing_answers_what_waits():
    workers = Workers(classifier_of(), batch_size=4, devices=jax.devices()[:1])
    answers = [one(workers, image) for image in pictures(9)]
    workers.close()
    assert all(answer.done() for answer in answers)


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ({1: 1.0, 4: 4.0, 8: 8.0}, [1, 1, 1, 4, 4, 4, 4, 8]),  # as on a processor, where filling up costs what it fills
        ({1: 1.0, 4: 1.0, 8: 1.0}, [1, 2, 3, 4, 5, 6, 7, 8]),  # as on an accelerator, where it is free
        ({1: 1.0, 4: 2.5, 8: 3.5}, [1, 1, 3, 4, 4, 6, 7, 8]),
    ],
)
def test_full_sizes_are_taken_where_filling_up_costs_more(workers, seconds, taken, monkeypatch):
    monkeypatch.setattr(workers, "seconds", seconds)
    assert [workers._taken(count) for count in range(1, 9)] == taken
    assert workers._taken(0) == 0


def test_what_is_held_back_is_answered_next(workers, monkeypatch):
    monkeypatch.setattr(workers, "seconds", {1: 1.0, 4: 4.0, 8: 8.0})
    images = pictures(7)
    answers = [one(workers, image) for image in images]
    alone = [one(workers, image).result(30) for image in images]
    for answer, own in zip(answers, alone, strict=True):
        np.testing.assert_allclose(answer.result(30).scores, own.scores, atol=1e-4)


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (4, [1, 4]), (6, [1, 4, 6]), (64, [1, 4, 16, 64])])
def test_few_sizes_are_compiled(largest, sizes):
    assert batch_sizes(largest) == sizes
