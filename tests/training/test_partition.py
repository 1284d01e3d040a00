import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import RESNET, assert_same_params, small_clip

from clipjax.errors import ConfigError
from clipjax.parallel.rules import path_name
from clipjax.training.partition import join, split


def names(tree):
    return {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def test_what_matches_is_trained_and_the_rest_is_not():
    _, params = small_clip()
    trainable, frozen = split(params, [r"^vision/blocks/", "logit_scale"])
    assert names(trainable) == {n for n in names(params) if n.startswith("vision/blocks/") or n == "logit_scale"}
    assert names(frozen) == names(params) - names(trainable)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(["vision/", "text/", "kernel$", "logit_scale", "bias$", ""]), min_size=1, unique=True))
def test_join_undoes_split(patterns):
    _, params = small_clip_once()
    assert_same_params(join(*split(params, patterns)), params)


def small_clip_once(kept=[]):  # noqa: B006 - one model for all examples
    if not kept:
        kept.append(small_clip())
    return kept[0]


def test_the_statistics_of_batch_norm_are_never_trained():
    _, params = small_clip(vision=RESNET)
    trainable, frozen = split(params, [""])
    kept = {name for name in names(params) if name.endswith(("/mean", "/var"))}
    assert kept and names(frozen) == kept
    assert not names(trainable) & kept


def test_a_pattern_without_a_match_is_named():
    with pytest.raises(ConfigError, match=r"'vison/' matches no parameter"):
        split({"vision": {"kernel": jnp.ones(1)}}, ["vision/", "vison/"])


def test_nothing_left_to_train_is_refused():
    with pytest.raises(ConfigError, match="no parameter is left"):
        split({"bn1": {"mean": jnp.ones(1)}}, [""])


def test_a_pattern_that_is_no_regular_expression_is_one_line():
    with pytest.raises(ConfigError, match=r"'vision/\(' is no regular expression"):
        split({"vision": {"kernel": jnp.ones(1)}}, ["vision/("])
