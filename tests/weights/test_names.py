"""Name tables: complete, without doubles, and the same way back."""

from collections import Counter

import numpy as np
import pytest
from small_models import RESNET, TEXT, VIT, assert_same_params, random_params

from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.models.presets import PRESETS
from clipjax.weights.assemble import Disassembled, assemble, flatten
from clipjax.weights.names import Layout, huggingface_names, openai_names
from clipjax.weights.stored import StoredTensor

BOTH = CLIPConfig(VIT, TEXT, 16)
TABLES = {
    "huggingface": (BOTH, huggingface_names(BOTH)),
    "huggingface-bare-names": (BOTH, huggingface_names(BOTH, "v.", "t.")),
    "openai": (BOTH, openai_names(BOTH)),
    "openai-resnet": (CLIPConfig(RESNET, TEXT, 16), openai_names(CLIPConfig(RESNET, TEXT, 16))),
    "openclip-custom-text": (BOTH, openai_names(BOTH, "text.")),
}
for tower, config in {
    "text-only": CLIPConfig(None, TEXT, None),
    "text-only-projected": CLIPConfig(None, TEXT, 16),
    "vision-only": CLIPConfig(VIT, None, None),
    "vision-only-projected": CLIPConfig(VIT, None, 16),
}.items():
    TABLES[f"huggingface-{tower}"] = config, huggingface_names(config)

every_table = pytest.mark.parametrize(("config", "rows"), TABLES.values(), ids=TABLES)


@every_table
def test_every_leaf_has_one_row(config, rows):
    assert Counter(row.path for row in rows) == Counter(list(flatten(CLIP(config).param_shapes())))


@every_table
def test_every_tensor_is_one_leaf_or_three_thirds(config, rows):
    owners = {}
    for row in rows:
        for name in row.names():
            owners.setdefault(name, []).append(row.third)
    assert all(thirds in ([None], [0, 1, 2]) for thirds in owners.values())


@every_table
def test_taken_apart_and_put_together_gives_the_same_params(config, rows, tmp_path):
    model = CLIP(config)
    params = random_params(model)
    tensors = {
        name: StoredTensor(name, array.dtype, array.shape, lambda array=array: array)
        for name, array in Disassembled(rows, params).items()
    }
    assert_same_params(assemble(tmp_path, model, rows, tensors, None), params)


@pytest.mark.parametrize("name", ["RN50x4", "laion/ViT-H-14"])
def test_tables_of_published_models_are_complete(name):
    shapes = list(flatten(CLIP(PRESETS[name]).param_shapes()))
    assert Counter(row.path for row in openai_names(PRESETS[name])) == Counter(shapes)


@pytest.mark.parametrize(
    ("layout", "shape"), [("same", (3, 4, 5)), ("transposed", (3, 4)), ("convolution", (2, 3, 4, 5))]
)
def test_layout_is_undone_by_its_inverse(layout, shape):
    ours = np.arange(np.prod(shape)).reshape(shape)
    theirs = Layout(layout).to_file(ours)
    assert theirs.shape == Layout(layout).file_shape(shape)
    assert np.array_equal(Layout(layout).from_file(theirs), ours)


def test_linear_kernels_lie_in_files_as_pytorch_has_them():
    params = random_params(CLIP(BOTH))
    tensors = dict(Disassembled(huggingface_names(BOTH), params))
    kernel = params["text"]["blocks"]["mlp"]["fc1"]["kernel"][1]
    assert np.array_equal(tensors["text_model.encoder.layers.1.mlp.fc1.weight"], kernel.T)


def test_query_key_and_value_are_the_rows_of_one_tensor():
    params = random_params(CLIP(BOTH))
    fused = dict(Disassembled(openai_names(BOTH), params))["transformer.resblocks.1.attn.in_proj_weight"]
    kernels = [params["text"]["blocks"]["attention"][name]["kernel"][1].T for name in ("query", "key", "value")]
    assert np.array_equal(fused, np.concatenate(kernels))


def test_only_what_a_file_fuses_is_copied():
    params = random_params(CLIP(BOTH))
    leaves = [np.asarray(leaf) for leaf in flatten(params).values()]
    copied = {
        name
        for name, tensor in Disassembled(openai_names(BOTH), params).items()
        if not any(np.shares_memory(tensor, leaf) for leaf in leaves)
    }
    assert copied and all("in_proj" in name for name in copied)


def test_transformers_layout_has_no_resnet():
    with pytest.raises(ValueError, match="no CLIP with a ResNet"):
        huggingface_names(CLIPConfig(RESNET, TEXT, 16))


def test_openais_layout_has_both_towers():
    with pytest.raises(ValueError, match="both towers"):
        openai_names(CLIPConfig(None, TEXT, 16))
