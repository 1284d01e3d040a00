import jax.numpy as jnp
import numpy as np
import pytest
from small_models import PLAIN_TEXT, PLAIN_VIT, random_params

from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.fingerprint import fingerprint
from clipjax.weights.load import load
from clipjax.weights.save import FORMATS, save

MODEL = CLIP(CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16))
PARAMS = random_params(MODEL)


@pytest.mark.parametrize("format", FORMATS)
def test_digest_does_not_depend_on_the_file(tmp_path, format):
    save(tmp_path / "saved", MODEL, PARAMS, format=format)
    assert fingerprint(load(tmp_path / "saved")[1]) == fingerprint(PARAMS)


def test_digest_does_not_depend_on_the_order_of_names_or_the_layout_in_memory():
    kernel = np.arange(6.0).reshape(2, 3)
    same = {"b": np.ones(2), "a": np.asfortranarray(kernel)}
    assert fingerprint(same) == fingerprint({"a": kernel, "b": np.ones(2)})


@pytest.mark.parametrize(
    "other",
    [
        {"a": jnp.array([1.0, 2.0, 3.0, 4.0000005])},
        {"a": jnp.array([1.0, 2.0, 4.0, 3.0])},
        {"a": jnp.array([[1.0, 2.0], [3.0, 4.0]])},
        {"a": jnp.array([1, 2, 3, 4], jnp.bfloat16)},
        {"b": jnp.array([1.0, 2.0, 3.0, 4.0])},
        {"a": {"a": jnp.array([1.0, 2.0, 3.0, 4.0])}},
        {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])},
    ],
    ids=["one bit", "order", "shape", "type", "name", "depth", "split"],
)
def test_digest_tells_params_apart(other):
    assert fingerprint(other) != fingerprint({"a": jnp.array([1.0, 2.0, 3.0, 4.0])})


def test_one_leaf_of_a_model_changes_the_digest():
    assert fingerprint({**PARAMS, "logit_scale": PARAMS["logit_scale"] + 1e-6}) != fingerprint(PARAMS)
