"""clipjax's own format: damage is noticed, and its description is believed only as far as it fits."""

import gc
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import PLAIN_TEXT, PLAIN_VIT, assert_same_params, random_params

from clipjax.errors import CheckpointError, ClipjaxError, ConfigError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.load import load
from clipjax.weights.native import write_native
from clipjax.weights.save import save

MODEL = CLIP(CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16))
PARAMS = random_params(MODEL)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("native") / "run"
    save(path, MODEL, PARAMS, format="orbax")
    return path


@pytest.fixture
def run(sound, tmp_path):
    """A copy to be spoilt."""
    return shutil.copytree(sound, tmp_path / "run")


@pytest.fixture
def collected():
    """What TensorStore had begun to read when Orbax gave up complains when it is collected: here, and not later."""
    yield
    gc.collect()


def edit(run, change):
    document = json.loads((run / "clipjax.json").read_text())
    change(document)
    (run / "clipjax.json").write_text(json.dumps(document))


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_flipped_bit_is_noticed(run, place):
    file = max((run / "params").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 4
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run/params: .*; copy it again") as caught:
        load(run)
    assert "\n" not in str(caught.value)


def test_checksum_that_differs_names_the_leaf(run):
    edit(run, lambda d: d["leaves"]["text/final_norm/scale"].update(crc32=1))
    with pytest.raises(CheckpointError, match=r"text/final_norm/scale is damaged \(checksum differs\)"):
        load(run)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_truncated_params_are_refused(run):
    file = max((run / "params").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"run/params"):
        load(run)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_missing_params_are_refused_in_one_line(run):
    shutil.rmtree(run / "params")
    with pytest.raises(CheckpointError, match=r"run/params: cannot be restored") as caught:
        load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["save", "restore"])
def test_failure_without_a_message_is_one_line_all_the_same(run, monkeypatch, method):
    def fail(*_):
        raise NotImplementedError

    monkeypatch.setattr(f"orbax.checkpoint.StandardCheckpointer.{method}", fail)
    with pytest.raises(ClipjaxError, match=r"\(NotImplementedError\)"):
        load(run) if method == "restore" else save(run.with_name("new"), MODEL, PARAMS, format="orbax")


def test_newer_version_is_refused(run):
    edit(run, lambda d: d.update(version=2))
    with pytest.raises(ConfigError, match=r"version 2 was written by a newer clipjax; upgrade clipjax"):
        load(run)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.pop("version"), "version is missing"),
        (lambda d: d.pop("leaves"), "leaves is missing"),
        (lambda d: d.update(leaves=[]), "leaves is a list, an object is needed"),
        (lambda d: d["leaves"].pop("logit_scale"), "params lack logit_scale"),
        (lambda d: d["leaves"].update(extra=d["leaves"]["logit_scale"]), "params have extra"),
        (lambda d: d["leaves"]["logit_scale"].update(shape=[3]), "logit_scale"),
        (lambda d: d["leaves"]["logit_scale"].update(shape=[-1]), r"logit_scale.shape is \[-1\]"),
        (lambda d: d["leaves"]["logit_scale"].update(shape="x"), "logit_scale.shape is 'x'"),
        (
            lambda d: d["leaves"]["logit_scale"].update(dtype="object"),
            "logit_scale.dtype is 'object'; known are float32",
        ),
        (lambda d: d["leaves"]["logit_scale"].update(crc32=-1), "logit_scale.crc32 is -1"),
        (lambda d: d["config"].pop("vision"), "config is malformed"),
        (lambda d: d["config"].update(text=3), "config is malformed"),
        (lambda d: d["config"].update(surprise=3), "config is malformed"),
        (lambda d: d["config"]["vision"].update(kind="mixer"), "config is malformed"),
        (lambda d: d["config"]["vision"].update(heads=7), "7 heads do not divide the width 128"),
        (lambda d: d["config"]["vision"].update(width=256), "this model needs"),
    ],
)
def test_description_that_does_not_fit_is_refused_by_field(run, change, complaint):
    edit(run, change)
    with pytest.raises(ClipjaxError, match=rf"clipjax\.json: .*{complaint}") as caught:
        load(run)
    assert "\n" not in str(caught.value)


def nested(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d["leaves"].update(vision=d["leaves"]["logit_scale"]), "params have vision "),
        (lambda d: d["leaves"].update({"a" + "/a" * 5000: d["leaves"]["logit_scale"]}), "params have a/a"),
        (lambda d: d["leaves"].update({"": d["leaves"]["logit_scale"]}), "params have "),
        (lambda d: d["config"].update(surprise=nested(400)), "nested more than 64 levels deep"),
        (lambda d: d["config"].update(mean=[10**400, 0, 0]), "CLIPConfig.mean is"),
    ],
    ids=["leaf and branch", "many branches", "no name", "nested", "huge"],
)
def test_forged_description_is_refused(run, change, complaint):
    edit(run, change)
    with pytest.raises(ConfigError, match=rf"clipjax\.json: .*{complaint}"):
        load(run)


def test_resnet_of_blocks_that_nobody_saved_is_not_built(run, monkeypatch):
    vision = {"kind": "resnet", "image_size": 32, "width": 2, "blocks": [64] * 4, "heads": 1}
    edit(run, lambda d: d["config"].update(vision=vision))
    monkeypatch.setattr("clipjax.models.clip._build", None)
    with pytest.raises(ConfigError, match=r"clipjax\.json: params lack vision/conv1/kernel"):
        load(run)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_damaged_numbers_behind_a_right_checksum_are_refused_by_name(tmp_path, value):
    write_native(tmp_path, MODEL.config, {**PARAMS, "logit_scale": jnp.float32(value)})
    with pytest.raises(CheckpointError, match="params: logit_scale holds NaN or infinite numbers"):
        load(tmp_path)


def test_numbers_too_large_for_the_type_are_refused_by_name(tmp_path):
    save(tmp_path / "large", MODEL, {**PARAMS, "logit_scale": jnp.float32(1e6)}, format="orbax")
    with pytest.raises(CheckpointError, match="params: logit_scale holds numbers too large for float16"):
        load(tmp_path / "large", dtype="float16")


def test_params_may_be_asked_for_in_another_type(sound):
    assert_same_params(load(sound, dtype="bfloat16")[1], jax.tree.map(lambda x: x.astype("bfloat16"), PARAMS))


def test_directory_may_be_moved(run, tmp_path):
    moved = run.rename(tmp_path / "elsewhere")
    assert_same_params(load(moved)[1], PARAMS)
