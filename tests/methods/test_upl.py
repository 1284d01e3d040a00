import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.data.source import UNKNOWN
from clipjax.errors import ConfigError
from clipjax.methods.learned_contexts import class_embeddings, context_tokens, contexts_from_words
from clipjax.methods.pseudo_labels import predictions, select_seeds, surest, zero_shot_scores
from clipjax.training.checkpoints import Keeping
from clipjax.training.run import Run

QUICK = {"epochs": 20, "batch_size": 8, "contexts": 4, "shots": 6, "optimizer": {"lr": 0.5}, "crop": 0.8, "views": 2}


@pytest.fixture(scope="module")
def learned(problem):
    return clipjax.adapt("upl", problem, **QUICK)


def agreement(classifier, problem):
    """Measure how well the classifier repeats the pseudo-labels it learnt from."""
    scored = zero_shot_scores(problem, Run())
    seeds = surest(predictions(scored.scores), QUICK["shots"])
    pixels = np.stack([clipjax.preprocess(scored.images.image(i), 16) for i in np.flatnonzero(seeds)])
    return np.mean(classifier.scores(pixels).argmax(1) == scored.labels[seeds])


def test_prompts_learn_the_confident_pseudo_labels(problem, learned):
    assert_allclose(np.linalg.norm(learned.class_weights, axis=1), 1, atol=1e-5)
    start = clipjax.adapt("upl", problem, **QUICK | {"optimizer": {"lr": 0.0}})
    assert agreement(learned, problem) > agreement(start, problem)
    assert learned.provenance["pseudo_shots"] <= 6 * 3 and learned.provenance["images"] == 24


def test_neither_tower_changes(problem, learned):
    for a, b in zip(jax.tree.leaves(problem.params), jax.tree.leaves(learned.params)):
        assert_array_equal(a, b)


def test_no_label_is_seen(problem, learned):
    erased = dataclasses.replace(problem.images, labels=problem.images.labels * 0 + UNKNOWN, classnames=("",) * 24)
    other = clipjax.adapt("upl", dataclasses.replace(problem, images=erased, shots=None), **QUICK)
    assert_array_equal(learned.class_weights, other.class_weights)


def test_without_a_step_it_is_the_classifier_of_the_words(problem):
    found = clipjax.adapt("upl", problem, **QUICK | {"words": "a photo of a", "optimizer": {"lr": 0.0}})
    assert_allclose(found.class_weights, problem.zero_shot.class_weights, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_prompts(problem, learned):
    second = clipjax.adapt("upl", problem, **QUICK | {"seed": 1, "views": 0})
    first = clipjax.adapt("upl", problem, **QUICK | {"views": 0})
    both = clipjax.adapt("upl", problem, **QUICK | {"ensemble": 2, "views": 0})
    mean = np.asarray(first.class_weights) + np.asarray(second.class_weights)
    assert not np.allclose(first.class_weights, second.class_weights, atol=1e-3)
    assert_allclose(both.class_weights, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_a_stopped_run_goes_on_to_the_same_bits(problem, learned, tmp_path):
    def stop_at_twenty(items, label, **_):
        for number, item in enumerate(items):
            if label == "upl" and number == 20:
                raise KeyboardInterrupt
            yield item

    keeping = Keeping(every=5)
    with pytest.raises(KeyboardInterrupt):
        clipjax.adapt("upl", problem, run=Run(folder=tmp_path, keeping=keeping, progress=stop_at_twenty), **QUICK)
    resumed = clipjax.adapt("upl", problem, run=Run(folder=tmp_path, keeping=keeping), **QUICK)
    assert_array_equal(learned.class_weights, resumed.class_weights)


def test_contexts_that_do_not_fit_are_refused(problem):
    with pytest.raises(ConfigError, match="use at most 12 contexts"):
        clipjax.adapt("upl", problem, contexts=16)


def test_seeds_are_the_most_confident_of_each_predicted_class():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    assert_array_equal(select_seeds(probabilities, 2), [False, True, False, True, True])
    assert_array_equal(select_seeds(probabilities, 3), [True, True, False, True, True])


def test_certainty_beyond_float32_is_still_told_apart():
    scores = np.array([[50.0, 20.0], [50.0, 15.0], [50.0, 25.0]], np.float32)
    assert_array_equal(surest(predictions(scores), 1), [False, True, False])
    assert len(set(np.asarray(jax.nn.softmax(jnp.asarray(scores))).max(1).tolist())) == 1


def test_words_are_read_behind_each_class(problem):
    contexts = contexts_from_words(problem.model, problem.params, problem.tokenizer, "one")
    tokens = context_tokens(problem.model, problem.tokenizer, problem.class_names, 1)
    assert class_embeddings(problem.model, problem.params, tokens, contexts).shape == (3, 16)
