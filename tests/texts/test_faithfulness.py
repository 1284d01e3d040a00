import numpy as np
import pytest

from clipjax.texts.faithfulness import faithfulness


def naive(texts, targets):
    unit = lambda x: x / np.linalg.norm(x)
    own = np.array([unit(t) @ unit(x) for t, x in zip(texts, targets)])
    percentile = np.array([100 * np.mean(own < value) for value in own])
    better = np.array([np.mean([unit(t) @ unit(x) > value + 1e-6 for x in targets]) for t, value in zip(texts, own)])
    return own, percentile, better


@pytest.mark.parametrize("kind", ["caption", "group_caption", "difference"])
def test_scores_are_those_of_a_loop(kind):
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(20, 8)), rng.normal(size=(30, 8))
    size = {"caption": 1, "group_caption": 4, "difference": 2}[kind]
    subjects = [rng.choice(20, size, replace=False).tolist() for _ in texts]
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    targets = [unit[a] - unit[b] for a, b in subjects] if size == 2 else [unit[rows].mean(0) for rows in subjects]
    found = faithfulness(kind, texts, images * 3, subjects)
    for got, want in zip((found.similarity, found.percentile, found.suits_better), naive(texts, targets)):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_text_about_another_image_is_the_lowest():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(50, 32))
    texts = images + 0.3 * rng.normal(size=images.shape)
    texts[7] = images[8]
    found = faithfulness("caption", texts, images, [[i] for i in range(50)])
    assert found.low(2.0).tolist() == [7] and found.low(0).size == 0
    assert found.suits_better[7] > 0 and np.delete(found.suits_better, 7).max() == 0
    assert found.similarity[found.low(20)].tolist() == sorted(found.similarity)[:10]


def test_more_subjects_than_are_compared_give_the_same_share_nearly():
    rng = np.random.default_rng(2)
    images = rng.normal(size=(3000, 16))
    texts = images + 2 * rng.normal(size=images.shape)
    found = faithfulness("caption", texts, images, [[i] for i in range(3000)])
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit(texts) @ unit(images).T
    exact = (cosines > np.diag(cosines)[:, None]).mean(1)
    assert abs(found.suits_better - exact).mean() < 0.01
