"""A small problem: plain-coloured pictures in memory, and a small CLIP with a small vocabulary."""

import io

import jax
import numpy as np
import pytest
from PIL import Image
from small_models import small_clip

from clipjax.classify.problem import Problem, make_problem
from clipjax.data.source import memory_source
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.models.config import TextConfig

NAMES = ("red", "green", "blue")
TEXT = TextConfig(49408, 16, width=24, layers=2, heads=3, mlp_width=40, bos_token_id=49406, eos_token_id=49407)


def pictures(count: int, seed: int):
    """Pictures of three colours, in turn, with some noise."""
    random = np.random.default_rng(seed)
    encoded, labels = [], []
    for number in range(count):
        pixels = random.integers(0, 60, (16, 16, 3))
        pixels[..., number % 3] += 180
        with io.BytesIO() as file:
            Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
            encoded.append(file.getvalue())
        labels.append(number % 3)
    return memory_source(encoded, labels=labels, classnames=[NAMES[label] for label in labels], name="pictures")


@pytest.fixture(scope="session")
def problem() -> Problem:
    model, params = small_clip(text=TEXT)
    # at the scale of random weights all images look alike; a lower temperature keeps the loss in a useful range
    params = params | {"logit_scale": jax.numpy.float32(2.0)}
    import dataclasses

    tokenizer = dataclasses.replace(openai_tokenizer(), context_length=16)
    return make_problem(model, params, tokenizer, NAMES, pictures(24, seed=0), shots=pictures(24, seed=1))


@pytest.fixture(scope="session")
def test_pictures():
    return pictures(30, seed=2)


@pytest.fixture
def accuracy(test_pictures):
    """A function that measures a classifier on other pictures."""
    from clipjax.classify.embed import embed_images

    def measure(classifier):
        rows, _, _ = embed_images(classifier.model, classifier.params, test_pictures, batch_size=30)
        return float(np.mean(np.argmax(classifier.scores_of(rows), axis=1) == test_pictures.labels))

    return measure
