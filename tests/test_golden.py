"""Numbers that other frameworks made: small ones beside this file, more of them in the shared folder."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import clipjax

SECTIONS = [
    pytest.param("encoders", marks=pytest.mark.slow),
    pytest.param("openai", marks=pytest.mark.slow),
    "hostile",
    "tokenizer preprocess metrics",
    "contrastive",
    "latteclip",
    "coft",
    "pcclip",
    "aape",
]


@pytest.fixture(scope="module", params=["vit", "resnet"])
def golden(request, pytestconfig):
    """A model of tests/golden, its params, and what PyTorch computed with it in float64 (make_models.py)."""
    folder = pytestconfig.rootpath / "tests/golden"
    model, params = clipjax.load(folder / request.param)
    return model, params, np.load(folder / f"{request.param}.npz")


def assert_close(found, wanted, tolerance):
    assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def test_image_embeddings_are_pytorchs(golden):
    model, params, arrays = golden
    assert_close(model.encode_image(params, arrays["images"]), arrays["image"], 1e-5)


def test_text_embeddings_are_pytorchs(golden):
    model, params, arrays = golden
    assert_close(model.encode_text(params, arrays["texts"]), arrays["text"], 1e-5)


def test_logits_are_pytorchs(golden):
    model, params, arrays = golden
    assert_close(model.logits(params, arrays["images"], arrays["texts"]), arrays["logits"], 1e-5)


@pytest.mark.parametrize("golden", ["vit"], indirect=True)
def test_gradient_of_the_loss_is_pytorchs(golden):
    model, params, arrays = golden

    @jax.value_and_grad
    def loss(images):
        logits = model.logits(params, images, arrays["texts"])
        return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits, axis=1)))

    value, gradient = loss(jnp.asarray(arrays["images"]))
    assert_close(value, arrays["loss"], 1e-5)
    assert_close(gradient, arrays["grad_images"], 1e-4)


@pytest.mark.parametrize("sections", SECTIONS)
def test_shared_golden_vectors_pass(shared_data, pytestconfig, tmp_path, sections):
    command = [sys.executable, str(shared_data / "golden/check.py"), *sections.split()]
    environment = os.environ | {"PYTHONPATH": str(pytestconfig.rootpath)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    failed = [line for line in run.stdout.splitlines() if not line.startswith("pass ")]
    assert run.returncode == 0, "\n".join([*failed, run.stderr[-2000:]])
