import numpy as np
import pytest
from described import DESCRIPTIONS, described
from numpy.testing import assert_allclose

import clipjax
from clipjax.classify.embed import embed_texts
from clipjax.errors import DataError


def test_class_weights_are_the_means_of_the_descriptions(problem):
    found = clipjax.adapt("descriptions", described(problem))
    for name, weight in zip(problem.class_names, found.class_weights):
        rows = embed_texts(problem.model, problem.params, problem.tokenizer, DESCRIPTIONS[name])
        mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0)
        assert_allclose(weight, mean / np.linalg.norm(mean), atol=1e-5)


def test_without_a_share_it_is_zero_shot(problem):
    found = clipjax.adapt("descriptions", described(problem), share=0.0)
    assert_allclose(found.class_weights, problem.zero_shot.class_weights, atol=1e-6)


def test_descriptions_are_asked_for(problem):
    with pytest.raises(DataError, match="pass them as texts"):
        clipjax.adapt("descriptions", problem)
