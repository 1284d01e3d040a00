"""Small models that many tests share: the same objects, so that each function is compiled once."""

import jax
import pytest
from small_models import RESNET, TEXT, random_images, random_texts, small_clip


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
