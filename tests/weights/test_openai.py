"""Bare state dicts: what shapes tell, what they cannot tell, and that PyTorch reads what we write."""

import dataclasses

import numpy as np
import pytest
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET, assert_same_params, random_params

from clipjax.errors import CheckpointError, ClipjaxError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.models.presets import PRESETS
from clipjax.weights import openclip
from clipjax.weights.assemble import Disassembled, flatten
from clipjax.weights.load import load
from clipjax.weights.names import openai_names
from clipjax.weights.openai import check_expressible, infer_config, is_openclips_own
from clipjax.weights.save import save
from clipjax.weights.stored import StoredTensor
from clipjax.weights.torch_writer import write_torch_archive

BOTH = CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16)
OF_RESNET = CLIPConfig(RESNET, PLAIN_TEXT, 16)


def state_dict(config: CLIPConfig, prefix: str = "") -> dict[str, np.ndarray]:
    model = CLIP(config)
    return dict(Disassembled(openai_names(config, prefix), random_params(model)))


def stored(tensors: dict[str, np.ndarray]) -> dict[str, StoredTensor]:
    return {name: StoredTensor(name, x.dtype, x.shape, lambda x=x: x) for name, x in tensors.items()}


def outline(config: CLIPConfig) -> dict[str, StoredTensor]:
    """The tensors of a model too large to draw: names and shapes without numbers."""
    shapes = flatten(CLIP(config).param_shapes())
    tensors = {}
    for row in openai_names(config):
        shape = shapes[row.path].shape
        shape = row.layout.file_shape(shape if row.layers is None else shape[1:])
        if row.third is not None:
            shape = (3 * shape[0], *shape[1:])
        tensors |= {name: StoredTensor(name, np.dtype(np.float32), shape, None) for name in row.names()}
    return tensors


PUBLISHED = ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336"]


@pytest.mark.parametrize(
    "name", ["RN50", "RN50x4", "ViT-B/32", "ViT-L/14@336", "laion/ViT-H-14", "laion/ViT-g-14", "laion/ViT-bigG-14"]
)
def test_published_model_is_inferred_from_its_shapes(tmp_path, name):
    assert infer_config(tmp_path, outline(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("config", [BOTH, OF_RESNET], ids=["vit", "resnet"])
def test_small_model_is_inferred_from_its_shapes(tmp_path, config, prefix):
    assert infer_config(tmp_path, stored(state_dict(config, prefix))) == config


def test_custom_text_prefix_is_read(tmp_path):
    write_torch_archive(tmp_path / "custom.pt", state_dict(BOTH, "text."))
    assert_same_params(load(tmp_path / "custom.pt", config=BOTH)[1], random_params(CLIP(BOTH)))


@pytest.mark.parametrize("sign", ["text prefix", "mask", "file name"])
def test_openclips_weights_without_a_configuration_are_refused_with_two_remedies(tmp_path, sign):
    """OpenCLIP's own models use the exact GELU, which no shape tells."""
    tensors = state_dict(BOTH, "text." if sign == "text prefix" else "")
    if sign == "mask":
        tensors["attn_mask"] = np.zeros((12, 12), np.float32)
    file = tmp_path / ("open_clip_pytorch_model.bin" if sign == "file name" else "mine.pt")
    write_torch_archive(file, tensors)
    with pytest.raises(
        CheckpointError, match=r"put open_clip_config\.json beside it, or name its configuration \(--preset"
    ):
        load(file)
    assert load(file, config=BOTH)[0].config == BOTH
    openclip.write_config(tmp_path, BOTH)
    assert load(file)[0].config == BOTH


def test_openais_archive_of_any_name_needs_no_configuration(tmp_path):
    tensors = state_dict(BOTH) | {"attn_mask": np.zeros((12, 12), np.float32), "vocab_size": np.array(40)}
    write_torch_archive(tmp_path / "open_clip_copy.pt", tensors)
    assert load(tmp_path / "open_clip_copy.pt")[0].config == BOTH


@pytest.mark.parametrize("name", ["ViT-B/32", "RN50", "laion/ViT-H-14", "laion/ViT-g-14", "laion/ViT-bigG-14"])
def test_sizes_that_only_openclip_published_are_known(tmp_path, name):
    assert is_openclips_own(infer_config(tmp_path, outline(PRESETS[name]))) == name.startswith("laion/")


def test_image_size_is_the_stored_one_where_the_grid_agrees(tmp_path):
    tensors = stored(state_dict(BOTH) | {"input_resolution": np.array(18)})
    assert infer_config(tmp_path, tensors).image_size == 18


@pytest.mark.parametrize("stored_size", [224, 0, -16, 15, 18.0, np.nan, np.inf])
def test_stored_image_size_that_contradicts_the_grid_is_not_believed(tmp_path, stored_size):
    tensors = stored(state_dict(BOTH) | {"input_resolution": np.array(stored_size)})
    assert infer_config(tmp_path, tensors).image_size == 16


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("ln_final.weight", None, "missing ln_final.weight"),
        ("text_projection", None, "missing text_projection"),
        ("visual.proj", None, "missing visual.layer1.0.conv1.weight"),
        ("visual.conv1.weight", np.zeros((3, 4)), r"visual.conv1.weight has shape \[3, 4\]; 4 dimensions are expected"),
        ("ln_final.weight", np.zeros(0), r"ln_final.weight has shape \[0\]"),
        (
            "visual.positional_embedding",
            np.zeros((18, 128)),
            "positional_embedding has 18 rows; a square number and one",
        ),
        ("visual.positional_embedding", np.zeros((1, 128)), "positional_embedding has 1 rows"),
    ],
)
def test_shapes_of_no_clip_are_refused_by_name(tmp_path, name, change, complaint):
    tensors = state_dict(BOTH)
    tensors[name] = change
    with pytest.raises(CheckpointError, match=complaint):
        infer_config(tmp_path / "file.pt", stored({n: x for n, x in tensors.items() if x is not None}))


@pytest.mark.parametrize("missing", ["blocks", "attention pool"])
def test_resnet_without_its_parts_is_refused(tmp_path, missing):
    part = {"blocks": "visual.layer3", "attention pool": "visual.attnpool.pos"}[missing]
    tensors = {name: x for name, x in state_dict(OF_RESNET).items() if not name.startswith(part)}
    with pytest.raises(CheckpointError, match=r"file\.pt: "):
        infer_config(tmp_path / "file.pt", stored(tensors))


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(BOTH, vision=dataclasses.replace(PLAIN_VIT, heads=4)),
        dataclasses.replace(BOTH, vision=dataclasses.replace(PLAIN_VIT, activation="gelu")),
        dataclasses.replace(BOTH, vision=dataclasses.replace(PLAIN_VIT, layer_norm_eps=1e-6)),
        dataclasses.replace(BOTH, vision=dataclasses.replace(PLAIN_VIT, image_size=18)),
        dataclasses.replace(BOTH, text=dataclasses.replace(PLAIN_TEXT, heads=2)),
        dataclasses.replace(BOTH, text=dataclasses.replace(PLAIN_TEXT, activation="gelu")),
        dataclasses.replace(BOTH, text=dataclasses.replace(PLAIN_TEXT, end_of_text="first")),
        dataclasses.replace(OF_RESNET, vision=dataclasses.replace(RESNET, heads=4)),
        dataclasses.replace(BOTH, mean=(0.5, 0.5, 0.5)),
        dataclasses.replace(BOTH, std=(0.5, 0.5, 0.5)),
        # shapes that mean OpenCLIP's H/14 with its 16 heads and exact GELU, here with OpenAI's rules
        dataclasses.replace(
            PRESETS["laion/ViT-H-14"],
            vision=dataclasses.replace(PRESETS["laion/ViT-H-14"].vision, heads=20, activation="quick_gelu"),
            text=dataclasses.replace(PRESETS["laion/ViT-H-14"].text, activation="quick_gelu"),
        ),
    ],
)
def test_what_shapes_cannot_say_is_refused(config):
    with pytest.raises(CheckpointError, match="save it as openclip or huggingface"):
        check_expressible(config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_openais_own_models_are_accepted(name):
    check_expressible(PRESETS[name])


def test_refused_model_leaves_no_file(tmp_path):
    config = dataclasses.replace(BOTH, vision=dataclasses.replace(PLAIN_VIT, heads=4))
    with pytest.raises(ClipjaxError):
        save(tmp_path / "saved.pt", CLIP(config), random_params(CLIP(config)), format="openai-state-dict")
    assert not list(tmp_path.iterdir())


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("config", [BOTH, OF_RESNET], ids=["vit", "resnet"])
def test_pytorch_reads_our_state_dict_without_running_anything(tmp_path, config, dtype):
    torch = pytest.importorskip("torch")
    model = CLIP(config)
    params = random_params(model, dtype=dtype)
    save(tmp_path / "saved.pt", model, params, format="openai-state-dict")
    found = torch.load(tmp_path / "saved.pt", weights_only=True)
    wanted = dict(Disassembled(openai_names(config), params))
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert tensor.dtype == getattr(torch, dtype)
        assert np.array_equal(tensor.float().numpy(), wanted[name].astype(np.float32)), name


@pytest.mark.torch
def test_we_read_a_state_dict_that_pytorch_saved(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.tensor(x) for name, x in state_dict(BOTH).items()}, tmp_path / "theirs.pt")
    model, params = load(tmp_path / "theirs.pt")
    assert model.config == BOTH
    assert_same_params(params, random_params(model))
