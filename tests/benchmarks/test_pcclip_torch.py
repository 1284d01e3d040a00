"""The PyTorch step that PC-CLIP's is timed against computes what the engine's own step does."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import random_texts, small_clip

import clipjax
from clipjax.training.optimizers import Optimizer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

STEPS = 3
# with an eps of the gradient's size an update says how large the gradient is, and not its sign alone
ADAM = Optimizer("adam", lr=1e-2, schedule="constant", weight_decay=0.0, eps=1e-2)


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in found}


@pytest.fixture(scope="module")
def problem():
    """A small CLIP, unit embeddings of five images, and six pairs with a sentence each."""
    model, params = small_clip()
    images = np.random.default_rng(0).normal(size=(5, model.config.embed_dim)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    first, second = np.array([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]], np.int32)
    tokens = np.asarray(random_texts(model.config.text, (4, 7, 5, 8, 6, 7)))[:, :8].astype(np.uint16)
    return model, params, images, {"first": first, "second": second, "tokens": tokens}


def test_steps_have_the_losses_and_params_of_clipjax(problem, tmp_path):
    from benchmarks.pcclip import ClipjaxStep
    from benchmarks.pcclip_torch import PCCLIPTorch, torch_batch
    from benchmarks.peers import transformers_peer

    model, params, images, batch = problem
    ours = ClipjaxStep(model, params, images, batch, ADAM, temperature=0.1)
    peer = transformers_peer(model, params)
    theirs = PCCLIPTorch(peer, images, ADAM, temperature=0.1)
    given = torch_batch(batch)
    losses = [(float(ours()), theirs.step(given).item()) for _ in range(STEPS)]
    for mine, other in losses:
        assert_allclose(mine, other, rtol=1e-5)
    assert losses[-1][0] < losses[0][0] - 1e-3
    peer.save_pretrained(tmp_path)
    after, others, before = leaves(ours.params), leaves(clipjax.load(tmp_path)[1]), leaves(params)
    for name, leaf in after.items():
        # a thousandth of what three steps can move a number by
        assert_allclose(leaf, others[name], atol=1e-3 * STEPS * ADAM.lr, err_msg=name)
    assert np.abs(after["text/blocks/mlp/fc1/kernel"] - before["text/blocks/mlp/fc1/kernel"]).max() > 1e-3


def test_the_text_tower_alone_takes_the_same_steps(problem):
    from benchmarks.pcclip import ClipjaxStep

    model, params, images, batch = problem
    both = [ClipjaxStep(model, params, images, batch, ADAM, text_alone=alone) for alone in (False, True)]
    for _ in range(STEPS):
        assert_allclose(*[float(step()) for step in both], rtol=1e-5)
