import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET, random_params

from clipjax.errors import CheckpointError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.assemble import flatten
from clipjax.weights.describe import describe
from clipjax.weights.save import FORMATS, save

MODEL = CLIP(CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16))
PARAMS = random_params(MODEL)
TOTAL = sum(leaf.size for leaf in flatten(PARAMS).values())


@pytest.mark.parametrize("format", FORMATS)
def test_every_leaf_is_listed_with_its_shape_and_type(tmp_path, format):
    save(tmp_path / "saved", MODEL, PARAMS | {"logit_scale": PARAMS["logit_scale"].astype("bfloat16")}, format=format)
    listed = {p.path: (p.shape, p.dtype, p.count) for p in describe(tmp_path / "saved").parameters}
    wanted = {path: (leaf.shape, "float32", leaf.size) for path, leaf in flatten(PARAMS).items()}
    assert listed == wanted | {"logit_scale": ((), "bfloat16", 1)}


@pytest.mark.parametrize(
    ("format", "named"),
    [("huggingface", "huggingface"), ("openclip", "openclip"), ("openai-state-dict", "openai"), ("orbax", "orbax")],
)
def test_format_is_named(tmp_path, format, named):
    save(tmp_path / "saved", MODEL, PARAMS, format=format)
    assert describe(tmp_path / "saved").format == named


def test_configuration_tells_the_kinds_of_tower(tmp_path):
    model = CLIP(CLIPConfig(RESNET, PLAIN_TEXT, 16))
    save(tmp_path / "saved", model, random_params(model), format="openclip")
    config = describe(tmp_path / "saved").config
    assert (config["vision"]["kind"], config["vision"]["blocks"]) == ("resnet", RESNET.blocks)
    assert config["text"]["width"] == 24


def test_parts_sum_to_the_whole(tmp_path):
    save(tmp_path / "saved", MODEL, PARAMS)
    parts = describe(tmp_path / "saved").parts()
    assert sum(part.count for part in parts) == TOTAL
    assert {"vision/blocks", "text/blocks", "logit_scale"} <= {part.path for part in parts}


def test_part_of_several_types_says_so(tmp_path):
    text = {**PARAMS["text"], "final_norm": random_params(MODEL, dtype="float16")["text"]["final_norm"]}
    text["final_norm"]["bias"] = PARAMS["text"]["final_norm"]["bias"]
    save(tmp_path / "saved", MODEL, {**PARAMS, "text": text})
    types = {part.path: part.dtype for part in describe(tmp_path / "saved").parts()}
    assert (types["text/final_norm"], types["text/blocks"]) == ("mixed", "float32")


def test_no_number_is_read(tmp_path):
    save(tmp_path / "saved", MODEL, PARAMS)
    file = tmp_path / "saved/model.safetensors"
    save_file({name: np.full_like(x, np.nan) for name, x in load_file(file).items()}, file)
    assert sum(p.count for p in describe(tmp_path / "saved").parameters) == TOTAL


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    save(tmp_path / "saved", MODEL, PARAMS)
    file = tmp_path / "saved/model.safetensors"
    save_file(load_file(file) | {"logit_scale": np.zeros(2, np.float32)}, file)
    with pytest.raises(CheckpointError, match=r"logit_scale has shape \[2\]"):
        describe(tmp_path / "saved")


@pytest.mark.parametrize("format", ["openclip", "orbax"])
def test_given_configuration_overrules_the_one_that_is_there(tmp_path, format):
    save(tmp_path / "saved", MODEL, PARAMS, format=format)
    config = dataclasses.replace(MODEL.config, vision=dataclasses.replace(PLAIN_VIT, heads=8))
    assert describe(tmp_path / "saved", config).config["vision"]["heads"] == 8
