"""The PyTorch step that LatteCLIP's is timed against computes what the engine's own step does."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import random_images, random_texts, small_clip

import clipjax
from clipjax.models.clip import unit
from clipjax.training.optimizers import Optimizer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

ALPHA, STEPS = 0.1, 3
# with an eps of the gradient's size an update says how large the gradient is, and not its sign alone
ADAMW = Optimizer(lr=1e-2, schedule="constant", weight_decay=0.2, b2=0.98, eps=1e-2)
# how the peer works, and where captions and prompts are cut for it
WAYS = [
    ("published", False, None, None),
    ("published", True, None, None),
    ("deduplicated", False, 8, 6),
    ("deduplicated", True, 8, 8),
    ("deduplicated", True, 8, 6),
]


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in found}


@pytest.fixture(scope="module")
def problem():
    """A small CLIP with prototypes, and inputs of seven images and three classes, of which one never occurs."""
    from benchmarks.latteclip import Inputs

    model, params = small_clip()
    images = np.asarray(random_images(model, count=7))
    captions, groups, prompts = (
        np.asarray(random_texts(model.config.text, lengths, seed))
        for seed, lengths in enumerate([(4, 7, 5, 7, 6, 8, 5), (6, 8, 4), (4, 6, 5)])
    )
    prototypes = unit(model.encode_text(params, prompts))
    return model, params, prototypes, Inputs(images, np.array([1, 0, 0, 1, 0, 1, 1]), captions, groups, prompts)


@pytest.mark.parametrize(("way", "together", "written", "prompts"), WAYS)
def test_steps_have_the_losses_prototypes_and_params_of_clipjax(problem, way, together, written, prompts, tmp_path):
    from benchmarks.latteclip import clipjax_step
    from benchmarks.latteclip_torch import LatteCLIPTorch, torch_batch
    from benchmarks.peers import transformers_peer

    model, params, prototypes, inputs = problem
    ours = clipjax_step(model, params, prototypes, inputs, ADAMW, alpha=ALPHA)
    peer = transformers_peer(model, params)
    start = torch.tensor(np.asarray(prototypes))
    theirs = LatteCLIPTorch(peer, start, ADAMW, alpha=ALPHA, together=together)
    texts = (inputs.captions[:, :written], inputs.groups[inputs.labels][:, :written], inputs.prompts[:, :prompts])
    batch = torch_batch(inputs.images, inputs.labels, *texts)
    for _ in range(STEPS):
        assert_allclose(ours(), theirs.step(batch, way), rtol=1e-5)
        assert_allclose(ours.state.carry["prototypes"], theirs.prototypes, atol=1e-5)
    peer.save_pretrained(tmp_path)
    own, others = leaves(ours.state.trainable), leaves(clipjax.load(tmp_path)[1])
    for name, leaf in own.items():
        # a thousandth of what three steps can move a number by
        assert_allclose(leaf, others[name], atol=1e-3 * STEPS * ADAMW.lr, err_msg=name)


def test_a_logit_scale_too_large_is_clamped(problem):
    from benchmarks.latteclip_torch import LatteCLIPTorch, torch_batch
    from benchmarks.peers import transformers_peer

    model, params, prototypes, inputs = problem
    peer = transformers_peer(model, params | {"logit_scale": np.float32(5.0)})
    theirs = LatteCLIPTorch(peer, torch.tensor(np.asarray(prototypes)), ADAMW)
    theirs.step(
        torch_batch(inputs.images, inputs.labels, inputs.captions, inputs.groups[inputs.labels], inputs.prompts),
        "deduplicated",
    )
    assert_allclose(peer.logit_scale.exp().item(), 100, rtol=1e-6)
