"""What the tests of every measure share: block sizes to cross, random numbers, and golden arrays."""

import numpy as np
import pytest


@pytest.fixture(params=[1, 100, 1 << 21], ids=["row-by-row", "few-rows", "one-block"])
def every_block_size(request, monkeypatch):
    monkeypatch.setattr("clipjax.evaluation.score_matrix.BLOCK_ELEMENTS", request.param)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def golden_metrics(shared_data):
    """A function that reads the golden arrays of one name."""
    return lambda name: np.load(shared_data / "golden" / "metrics" / f"{name}.npz")
