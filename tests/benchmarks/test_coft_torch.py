"""The PyTorch steps that CoFT's are timed against compute what the engine's own steps do."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import random_images, small_clip

from clipjax.methods.coft.algorithm import draw_complements

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CLASSES, STEPS = 3, 3
ARGUMENTS = argparse.Namespace(device="cpu", classes=CLASSES, dtype="float32")


@pytest.fixture
def problem(monkeypatch):
    """A small CLIP with contexts, class names and a queue of its size, learning fast; images and labels."""
    import dataclasses

    from benchmarks import coft

    monkeypatch.setattr(coft, "SGD", dataclasses.replace(coft.SGD, lr=0.05))
    monkeypatch.setattr(coft, "PROMPT_LENGTHS", (4, 6))
    monkeypatch.setattr(
        coft, "DEFAULTS", dataclasses.replace(coft.DEFAULTS, contexts=3, visual_prompts=2, queue=13, momentum=0.5)
    )
    model, params = small_clip()
    return model, params, np.asarray(random_images(model, count=7)), np.array([1, 0, 2, 1, 0, 1, 1], np.int32)


@pytest.mark.parametrize("contrast", [False, True])
def test_tuning_steps_have_the_losses_of_clipjax(problem, contrast):
    from benchmarks.coft import tune

    ours, theirs = tune(*problem, ARGUMENTS, contrast=contrast)
    losses = np.array([(ours(), theirs()) for _ in range(STEPS)])
    assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-4)
    assert losses[0, 0] != losses[2, 0]


def test_prompt_steps_have_the_losses_of_clipjax(problem, monkeypatch):
    from benchmarks import coft, coft_torch

    given = []
    step = coft_torch.PromptStepTorch.step
    monkeypatch.setattr(coft_torch.PromptStepTorch, "step", lambda self, *batch: step(self, *batch[:2], given[-1]))
    ours, theirs = coft.prompts(*problem, ARGUMENTS)
    labels = jnp.asarray(problem[3])
    losses = []
    for number in range(STEPS):
        key = jax.random.fold_in(jax.random.key(coft.SEED), number)
        given.append(torch.tensor(np.asarray(draw_complements(key, labels, CLASSES))).long())
        losses.append((float(ours()), theirs()))
    assert_allclose(*np.array(losses).T, rtol=1e-4)
    assert losses[0][0] != losses[2][0]


def test_in_bfloat16_both_sides_compute_in_it(problem):
    from benchmarks import coft

    model, *rest = problem
    half = argparse.Namespace(device="cpu", classes=CLASSES, dtype="bfloat16")
    exact, _ = coft.prompts(*problem, ARGUMENTS)
    ours, theirs = coft.prompts(model.replace(dtype="bfloat16"), *rest, half)
    wanted, found = float(exact()), np.array([float(ours()), theirs()])
    assert_allclose(found, wanted, rtol=0.05)
    assert (np.abs(found - wanted) > 1e-5 * wanted).all()
    _, theirs = coft.tune(*problem, half, contrast=True)
    _, other = coft.tune(*problem, ARGUMENTS, contrast=True)
    assert theirs() != other()
