import math
import re

import jax
import pytest
from jax.sharding import PartitionSpec as P
from small_models import RESNET, small_clip

from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
from clipjax.parallel.mesh import make_mesh
from clipjax.parallel.rules import FSDP, REPLICATED, path_name, shardings
from clipjax.training.optimizers import Optimizer

BASE = CLIP(CLIPConfig(ViTConfig(224, 32, 768, 12, 12, 3072), TextConfig(49408, 77, 512, 12, 8, 2048), 512))


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def specs(tree, rules, **mesh):
    placed = shardings(make_mesh(**mesh), tree, rules)
    return {path_name(path): sharding.spec for path, sharding in jax.tree_util.tree_leaves_with_path(placed)}


def test_the_first_rule_that_matches_wins():
    rules = ((r"a/kernel$", P("fsdp")), (r"kernel$", P(None, "fsdp")), (r"", P()))
    tree = {"a": {"kernel": leaf(4, 4), "bias": leaf(4)}, "b": {"kernel": leaf(4, 4)}}
    assert specs(tree, rules, fsdp=2) == {"a/kernel": P("fsdp"), "a/bias": P(), "b/kernel": P(None, "fsdp")}


def test_replicated_is_whole_everywhere():
    assert set(specs({"a": leaf(3), "b": {"c": leaf(5, 7)}}, REPLICATED, fsdp=4).values()) == {P()}


def test_fsdp_splits_nearly_all_of_a_clip():
    shapes = BASE.param_shapes()
    placed = shardings(make_mesh(fsdp=4), shapes, FSDP)
    whole, here = 0, 0
    for shape, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(placed), strict=True):
        whole += shape.size
        here += math.prod(sharding.shard_shape(shape.shape))
    assert here / whole < 0.26


def test_fsdp_splits_the_convolutions_of_a_resnet():
    found = specs(small_clip(vision=RESNET)[0].param_shapes(), FSDP, fsdp=4)
    convolutions = [spec for name, spec in found.items() if re.search(r"stage.*conv\d/kernel", name)]
    assert convolutions and set(convolutions) == {P(None, None, None, "fsdp")}


def test_the_optimisers_moments_lie_like_their_params():
    shapes = BASE.param_shapes()
    optimizer = Optimizer(weight_decay=0.1, clip_norm=1.0)
    state = jax.eval_shape(optimizer.init, shapes)
    of_params, of_state = specs(shapes, FSDP, fsdp=4), specs(state, FSDP, fsdp=4)
    for name, spec in of_params.items():
        moments = [found for path, found in of_state.items() if path.endswith((f"mu/{name}", f"nu/{name}"))]
        assert moments == [spec, spec], name


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (((r"kernel$", P("fsdp")), (r"", P())), r"a/kernel \(6, 8\): fsdp=4 does not divide 6"),
        (((r"", P(("data", "fsdp"), None)),), r"does not divide 6"),
        (((r"", P("model")),), r"names the axis 'model'; the mesh has data, fsdp"),
        (((r"", P(None, None, "fsdp")),), r"a/kernel has shape \(6, 8\), too few dimensions"),
        (((r"bias$", P()),), r"no sharding rule fits a/kernel \(6, 8\)"),
    ],
)
def test_a_rule_that_does_not_fit_names_the_leaf_and_the_axis(rules, message):
    with pytest.raises(ConfigError, match=message):
        shardings(make_mesh(fsdp=4), {"a": {"kernel": leaf(6, 8)}}, rules)
