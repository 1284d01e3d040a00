"""A batch spread over devices gives what one device gives, and the devices do not talk to each other."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose
from small_models import TEXT, random_images, random_texts

from clipjax.models.clip import CLIP, unit

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


@pytest.fixture(params=[1, 2, 4], ids="{}-devices".format)
def shardings(request):
    """How params and batches lie on a mesh of one axis."""
    mesh = Mesh(np.array(jax.devices()[: request.param]), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


@pytest.mark.parametrize("tower", ["image", "text"])
def test_sharded_batch_equals_one_device_without_communication(vit, shardings, tower):
    model, params = vit
    function = {"image": CLIP.encode_image, "text": CLIP.encode_text}[tower]
    batch = {"image": lambda: random_images(model, 4), "text": lambda: random_texts(TEXT, (4, 7, 5, 9))}[tower]()
    everywhere, split = shardings
    program = function.lower(model, jax.device_put(params, everywhere), jax.device_put(batch, split)).compile()
    embedding = program(jax.device_put(params, everywhere), jax.device_put(batch, split))
    assert_allclose(unit(embedding), unit(function(model, params, batch)), rtol=0, atol=1e-6)
    assert embedding.sharding.is_equivalent_to(split, 2)
    assert not [name for name in COLLECTIVES if name in program.as_text()]
