"""`save`: whole or not at all, and never over something that is there unless asked."""

import errno
import json

import jax.numpy as jnp
import pytest
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET, assert_same_params, random_params

from clipjax.errors import CheckpointError, ConfigError, OutputError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.load import load
from clipjax.weights.save import FORMATS, save

MODEL = CLIP(CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16))
PARAMS = random_params(MODEL)
WRITERS = {
    "huggingface": "write_safetensors",
    "openclip": "write_safetensors",
    "openai-state-dict": "write_torch_archive",
    "orbax": "write_native",
}

every_format = pytest.mark.parametrize("format", FORMATS)


def failing_writer(monkeypatch, format, error):
    """Let the writer of the numbers leave half a file and fail."""

    def write(path, *_):
        target = path / "half" if path.is_dir() else path
        target.write_bytes(b"half of the numbers")
        raise error

    monkeypatch.setattr(f"clipjax.weights.save.{WRITERS[format]}", write)


@every_format
def test_existing_path_is_left_alone(tmp_path, format):
    (tmp_path / "saved").write_text("precious")
    with pytest.raises(OutputError, match=r"saved: exists already"):
        save(tmp_path / "saved", MODEL, PARAMS, format=format)
    assert (tmp_path / "saved").read_text() == "precious"


@every_format
def test_overwrite_replaces_what_was_there(tmp_path, format):
    save(tmp_path / "saved", MODEL, random_params(MODEL, seed=1), format=format)
    save(tmp_path / "saved", MODEL, PARAMS, format=format, overwrite=True)
    assert_same_params(load(tmp_path / "saved")[1], PARAMS)
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


@every_format
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["exception", "ctrl-c"])
def test_failure_leaves_nothing(tmp_path, monkeypatch, format, error):
    failing_writer(monkeypatch, format, error)
    with pytest.raises(type(error)):
        save(tmp_path / "saved", MODEL, PARAMS, format=format)
    assert not list(tmp_path.iterdir())


@every_format
def test_failure_keeps_what_it_should_have_replaced(tmp_path, monkeypatch, format):
    save(tmp_path / "saved", MODEL, PARAMS, format=format)
    with monkeypatch.context() as patch:
        failing_writer(patch, format, RuntimeError("broken"))
        with pytest.raises(RuntimeError):
            save(tmp_path / "saved", MODEL, random_params(MODEL, seed=1), format=format, overwrite=True)
    assert_same_params(load(tmp_path / "saved")[1], PARAMS)
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


@every_format
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, format):
    failing_writer(monkeypatch, format, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OutputError, match=r"saved: the disk is full.*; free some space or write elsewhere$") as caught:
        save(tmp_path / "saved", MODEL, PARAMS, format=format)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@every_format
def test_params_of_another_model_are_refused_before_anything_is_written(tmp_path, format):
    with pytest.raises(ConfigError, match="image_projection/kernel"):
        save(tmp_path / "saved", MODEL, {**PARAMS, "image_projection": {"kernel": jnp.zeros((3, 3))}}, format=format)
    assert not list(tmp_path.iterdir())


@every_format
@pytest.mark.parametrize("value", [jnp.nan, -jnp.inf])
def test_params_that_would_not_load_again_are_refused_by_name(tmp_path, format, value):
    with pytest.raises(CheckpointError, match="saved: not written, since logit_scale holds NaN or infinite numbers"):
        save(tmp_path / "saved", MODEL, {**PARAMS, "logit_scale": jnp.float32(value)}, format=format)
    assert not list(tmp_path.iterdir())


def test_unknown_format_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(CheckpointError, match="no format 'onnx'; known are huggingface, openclip, openai-state-dict"):
        save(tmp_path / "saved", MODEL, PARAMS, format="onnx")


def test_parents_are_made(tmp_path):
    save(tmp_path / "a/b/saved", MODEL, PARAMS, format="openai-state-dict")
    assert_same_params(load(tmp_path / "a/b/saved")[1], PARAMS)


@pytest.mark.parametrize("format", ["huggingface", "openclip", "orbax"])
def test_extra_files_are_part_of_the_directory(tmp_path, format):
    save(tmp_path / "saved", MODEL, PARAMS, format=format, extra=lambda folder: (folder / "notes.txt").write_text("hi"))
    assert (tmp_path / "saved/notes.txt").read_text() == "hi"


def test_failure_of_the_extra_files_leaves_nothing(tmp_path):
    def fail(folder):
        raise RuntimeError("no tokenizer")

    with pytest.raises(RuntimeError):
        save(tmp_path / "saved", MODEL, PARAMS, extra=fail)
    assert not list(tmp_path.iterdir())


def test_resnet_for_transformers_is_refused_and_leaves_nothing(tmp_path):
    model = CLIP(CLIPConfig(RESNET, PLAIN_TEXT, 16))
    with pytest.raises(CheckpointError, match="ResNet; save it as openclip or openai-state-dict"):
        save(tmp_path / "saved", model, random_params(model))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_is_told_the_type_of_the_numbers(tmp_path, dtype):
    params = {**random_params(MODEL, dtype=dtype), "logit_scale": PARAMS["logit_scale"]}
    save(tmp_path / "saved", MODEL, params)
    assert json.loads((tmp_path / "saved/config.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize("format", ["huggingface", "openclip", "openai-state-dict"])  # Orbax writes the date
def test_equal_params_give_equal_files(tmp_path, format):
    for name in ("one", "two"):
        save(tmp_path / name, MODEL, PARAMS, format=format)
    one, two = (
        [p.read_bytes() for p in sorted([f, *f.glob("*")]) if p.is_file()] for f in (tmp_path / "one", tmp_path / "two")
    )
    assert one and one == two
