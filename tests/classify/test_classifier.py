import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.classify.classifier import Classifier, mean_class_weights
from clipjax.classify.zero_shot import zero_shot_classifier
from clipjax.errors import DataError


def normalised(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_class_weight_is_the_normalised_mean_of_unit_embeddings():
    embeddings = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32) * np.arange(1, 10)[:, None]
    counts, naive, start = [2, 1, 6], [], 0
    for count in counts:
        naive.append(normalised(np.mean([normalised(row) for row in embeddings[start : start + count]], axis=0)))
        start += count
    assert_allclose(mean_class_weights(embeddings, counts), naive, atol=1e-6)


def test_long_embeddings_weigh_no_more_than_short_ones():
    short = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert_allclose(mean_class_weights(short * [[1], [1000]], [2]), mean_class_weights(short, [2]), atol=1e-6)


def test_classes_of_equal_weights_score_equal(small):
    model, params, tokenizer = small
    texts = [["a cat."], ["a dog."], ["a cat."]]
    classifier = zero_shot_classifier(model, params, tokenizer, ["cat", "dog", "feline"], texts)
    scores = np.asarray(classifier.scores_of(np.random.default_rng(1).normal(size=(4, 16))))
    assert (scores[:, 0] == scores[:, 2]).all()
    assert (scores[:, 0] != scores[:, 1]).all()


def test_scores_are_scaled_cosines(small):
    model, params, _ = small
    weights = normalised(np.random.default_rng(2).normal(size=(3, 16)))
    images = np.random.default_rng(3).normal(size=(5, 16))
    classifier = Classifier(model, params, ("a", "b", "c"), jnp.asarray(weights, jnp.float32))
    expected = np.exp(np.asarray(params["logit_scale"])) * normalised(images) @ weights.T
    assert_allclose(classifier.scores_of(images), expected, rtol=1e-5, atol=1e-5)


def test_scores_of_images_are_those_of_their_embeddings(small, getkey):
    model, params, tokenizer = small
    classifier = zero_shot_classifier(model, params, tokenizer, ["cat", "dog"], [["a cat."], ["a dog."]])
    images = jnp.linspace(-1, 1, 2 * 16 * 16 * 3).reshape(2, 16, 16, 3)
    expected = classifier.scores_of(model.encode_image(params, images))
    assert_allclose(classifier.scores(images), expected, atol=1e-5)


def test_one_text_per_class_makes_the_logits_of_the_model(small):
    model, params, tokenizer = small
    texts = ["a photo of a cat.", "a dog"]
    classifier = zero_shot_classifier(model, params, tokenizer, ["cat", "dog"], [[text] for text in texts])
    images = jnp.linspace(-1, 1, 2 * 16 * 16 * 3).reshape(2, 16, 16, 3)
    expected = model.logits(params, images, tokenizer(texts, model.config.context_length))
    assert_allclose(classifier.scores(images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "texts", "reason"),
    [
        (["cat"], [["a cat."]], "at least two"),
        (["cat", "dog"], [["a cat."]], "2 classes but texts for 1"),
        (["cat", "dog"], [["a cat."], []], "2 classes but texts for 1"),
    ],
)
def test_classes_without_texts_are_an_error(names, texts, reason, small):
    with pytest.raises(DataError, match=reason):
        zero_shot_classifier(*small, names, texts)


def test_provenance_counts_the_texts(small):
    classifier = zero_shot_classifier(*small, ["cat", "dog"], [["a cat.", "a kitten."], ["a dog."]])
    assert classifier.provenance == {"method": "zero_shot", "texts_per_class": [2, 1]}
