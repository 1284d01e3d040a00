"""A small CLIP with CLIP's vocabulary, and a few pictures."""

import io

import numpy as np
import pytest
from PIL import Image
from small_models import small_clip

from clipjax.data.source import memory_source
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.models.config import TextConfig

TEXT = TextConfig(49408, 40, width=24, layers=2, heads=3, mlp_width=40, bos_token_id=49406, eos_token_id=49407)


@pytest.fixture(scope="session")
def small():
    """A model that knows CLIP's vocabulary, its params and its tokenizer."""
    return *small_clip(text=TEXT), openai_tokenizer()


@pytest.fixture
def pictures():
    """A function that makes a source of random pictures; those at the positions `bad` are cut short."""

    def make(count, bad=(), seed=0):
        random = np.random.default_rng(seed)
        images = []
        for position in range(count):
            buffer = io.BytesIO()
            height, width = random.integers(17, 30, 2)
            Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(buffer, "PNG")
            images.append(buffer.getvalue()[:60] if position in bad else buffer.getvalue())
        return memory_source(images)

    return make
