"""What the tests of every loss share: strict dtype promotion, and gradients by central differences."""

import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def float64_similarity():
    """A function that multiplies all images with all texts in float64, their rows normalised or not."""

    def similarity(image, text, normalize):
        image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
        lengths = np.linalg.norm(image, axis=1)[:, None] * np.linalg.norm(text, axis=1)
        return image @ text.T / (lengths if normalize else 1.0)

    return similarity


@pytest.fixture
def central_differences():
    """A function that differentiates a scalar function with respect to every entry of its arguments."""

    def gradients(function, *arrays, step=1e-6):
        arrays = [np.array(a, np.float64) for a in arrays]
        results = [np.zeros_like(a) for a in arrays]
        for array, result in zip(arrays, results):
            for place in np.ndindex(array.shape):
                value = array[place]
                array[place] = value + step
                above = function(*arrays)
                array[place] = value - step
                below = function(*arrays)
                array[place] = value
                result[place] = (above - below) / (2 * step)
        return results

    return gradients
