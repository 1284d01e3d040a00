"""Reading params: what small golden checkpoints do not reach."""

from pathlib import Path

import jax
import numpy as np
import pytest

import clipjax
from clipjax.errors import CheckpointError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
from clipjax.weights.assemble import flatten

# wider than one tile of the transposing copy in both directions, and no multiple of it
WIDE = CLIP(
    CLIPConfig(
        ViTConfig(image_size=28, patch_size=14, width=330, layers=2, heads=5, mlp_width=590),
        TextConfig(50, 8, width=64, layers=1, heads=1, mlp_width=300, bos_token_id=48, eos_token_id=49),
        embed_dim=96,
    )
)


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    return jax.tree.map(lambda s: random.standard_normal(s.shape, np.float32), WIDE.param_shapes())


@pytest.mark.parametrize("format", ["huggingface", "openclip"])
def test_leaves_wider_than_a_tile_come_back_unchanged(tmp_path, params, format):
    clipjax.save(tmp_path / "model", WIDE, params, format)
    _, loaded = clipjax.load(tmp_path / "model")
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_loaded_params_survive_donation(tmp_path, params):
    clipjax.save(tmp_path / "model", WIDE, params)
    _, loaded = clipjax.load(tmp_path / "model")
    doubled = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree), donate_argnums=0)(loaded)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, 2 * y), doubled, params)


def test_number_too_large_for_the_asked_type_is_refused(tmp_path, params):
    large = jax.tree.map(lambda x: x * 1e6, params)
    clipjax.save(tmp_path / "model", WIDE, large)
    with pytest.raises(CheckpointError, match="too large for float16"):
        clipjax.load(Path(tmp_path, "model"), dtype="float16")


def test_params_take_over_the_memory_they_were_read_into(tmp_path, params, monkeypatch):
    """A copy into jax would double the memory of loading."""
    read = []
    put = jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x: read.append(x) or put(x))
    clipjax.save(tmp_path / "model", WIDE, params)
    _, loaded = clipjax.load(tmp_path / "model")
    pointers = {x.ctypes.data for x in read}
    assert pointers == {x.unsafe_buffer_pointer() for x in flatten(loaded).values()}
