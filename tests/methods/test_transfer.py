"""What was learnt of some classes, used on others."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.errors import ConfigError
from clipjax.methods.learned_contexts import class_embeddings, context_tokens
from clipjax.methods.transfer import transferred

PLAIN = {"views": {"count": 0}}


@pytest.fixture(scope="module")
def halves(problem):
    return problem.restricted_to(np.array([2, 0])), problem.restricted_to(np.array([1, 0]))


def test_a_restricted_problem_has_the_classes_in_the_order_given(problem, halves):
    base, _ = halves
    assert base.class_names == ("blue", "red") and base.prompts == (problem.prompts[2], problem.prompts[0])
    assert base.shots is not None
    assert [base.class_names[label] for label in base.shots.labels] == list(base.shots.classnames)


def test_heads_stay_and_class_weights_are_those_of_the_new_names(halves):
    base, new = halves
    found = clipjax.adapt("clip_adapter", base, epochs=1, batch_size=4, **PLAIN)
    moved = transferred(found, new)
    assert moved.class_names == ("green", "red") and moved.head is found.head
    assert_allclose(moved.class_weights, new.zero_shot.class_weights, atol=1e-6)


def test_contexts_are_put_before_the_new_names(halves):
    base, new = halves
    found = clipjax.adapt("coop", base, contexts=2, epochs=1, batch_size=4, **PLAIN)
    contexts = found.head.arrays["contexts"]
    tokens = context_tokens(new.model, new.tokenizer, new.class_names, 2)
    wanted = class_embeddings(new.model, new.params, tokens, contexts)
    assert_allclose(transferred(found, new).class_weights, wanted, atol=1e-5)


def test_a_cache_says_nothing_of_new_classes(halves):
    base, new = halves
    moved = transferred(clipjax.adapt("tip_adapter", base, **PLAIN), new)
    assert moved.head is None
    assert_array_equal(moved.class_weights, new.zero_shot.class_weights)


def test_fitted_class_weights_are_refused(halves):
    base, new = halves
    with pytest.raises(ConfigError, match="says nothing of new ones"):
        transferred(clipjax.adapt("linear_probe", base), new)
