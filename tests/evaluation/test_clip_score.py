import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.errors import DataError
from clipjax.evaluation.clip_score import clip_scores


def test_the_score_is_two_and_a_half_times_the_cosine_and_never_negative():
    texts = np.array([[1.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    images = np.array([[2.0, 0.0], [4.0, 3.0], [-1.0, 0.5]])
    assert_allclose(clip_scores(images, texts), [2.5, 2.5 * 0.6, 0.0])


@pytest.mark.parametrize(
    ("images", "texts", "complaint"),
    [
        (np.ones((2, 3)), np.ones((1, 3)), "one text for each"),
        (np.zeros((1, 3)), np.ones((1, 3)), "no direction"),
        (np.full((1, 3), np.inf), np.ones((1, 3)), "no direction"),
    ],
)
def test_what_has_no_score_is_refused(images, texts, complaint):
    with pytest.raises(DataError, match=complaint):
        clip_scores(images, texts)
