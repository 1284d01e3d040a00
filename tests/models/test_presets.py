import jax
import pytest

from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP
from clipjax.models.presets import PRESETS, preset

# as PyTorch counts them in the published checkpoints: batch norm statistics are buffers there, not parameters
PUBLISHED_SIZES = {
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
    "ViT-L/14@336": 427_944_193,
    "laion/ViT-B-32": 151_277_313,
    "laion/ViT-B-16": 149_620_737,
    "laion/ViT-L-14": 427_616_513,
    "laion/ViT-H-14": 986_109_441,
    "laion/ViT-g-14": 1_366_678_273,
    "laion/ViT-bigG-14": 2_539_567_105,
    "datacomp/ViT-B-32": 151_277_313,
    "datacomp/ViT-B-16": 149_620_737,
    "datacomp/ViT-L-14": 427_616_513,
}


@pytest.mark.parametrize("name", PRESETS)
def test_number_of_parameters_is_the_published_one(name):
    leaves = jax.tree_util.tree_leaves_with_path(CLIP(preset(name)).param_shapes())
    statistics = ("['mean']", "['var']")
    assert sum(x.size for path, x in leaves if str(path[-1]) not in statistics) == PUBLISHED_SIZES[name]


# the other ResNets differ in numbers only
@pytest.mark.parametrize("name", ["RN50", *(name for name in PRESETS if "ViT" in name)])
def test_drawn_params_have_the_promised_shapes(name):
    model = CLIP(preset(name))
    assert jax.eval_shape(model.init, jax.random.key(0)) == model.param_shapes()


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no preset 'ViT-Z'; known are RN50, .*ViT-L/14@336"):
        preset("ViT-Z")
