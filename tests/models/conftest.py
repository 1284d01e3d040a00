"""Small models that many tests share: the same objects, so that each function is compiled once."""

import jax
import numpy as np
import pytest
from small_models import RESNET, TEXT, random_images, random_texts, small_clip, small_language_model


@pytest.fixture(scope="package", autouse=True)
def quick_compilation():
    """These models are so small that compiling them takes all the time; what it optimises is not under test."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def vit():
    """A CLIP with a vision transformer, and its params."""
    return small_clip()


@pytest.fixture(scope="session")
def resnet():
    """A CLIP with a ResNet, and its params."""
    return small_clip(RESNET)


@pytest.fixture(scope="session")
def images(vit):
    return random_images(vit[0])


@pytest.fixture(scope="session")
def texts():
    return random_texts(TEXT)


@pytest.fixture(scope="session")
def language():
    """A causal language model with random numbers, and its params."""
    return small_language_model()


@pytest.fixture(scope="session")
def prompts(language):
    """Embeddings of eight prompts of up to 5 tokens, and their lengths; noise follows the short ones."""
    model, params = language
    random = np.random.default_rng(5)
    tokens = jax.numpy.asarray(random.integers(0, model.config.vocab_size, (8, 5)))
    embeddings = np.array(model.embed_tokens(params, tokens))
    lengths = np.array([5, 3, 1, 4, 5, 2, 5, 5], np.int32)
    for row, length in zip(embeddings, lengths):
        row[length:] = random.normal(size=row[length:].shape)
    return jax.numpy.asarray(embeddings), jax.numpy.asarray(lengths)
