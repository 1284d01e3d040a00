"""Names on the Hugging Face hub: told from paths, fetched where there is a network, one line where there is none."""

import os
import subprocess
import sys

import huggingface_hub
import pytest
from small_models import PLAIN_TEXT, PLAIN_VIT, assert_same_params, random_params

from clipjax.errors import CheckpointError
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.hub import fetch, is_hub_name
from clipjax.weights.load import load
from clipjax.weights.save import save

MODEL = CLIP(CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16))
PARAMS = random_params(MODEL)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that answers with a given folder, and remembers what it was asked for."""
    asked = []

    def answer(folder):
        def snapshot_download(name, allow_patterns):
            asked.append((name, tuple(allow_patterns)))
            return str(folder)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return answer


@pytest.mark.parametrize("name", ["openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32_2B.s34", "a/b"])
def test_organisation_and_model_make_a_hub_name(name):
    assert is_hub_name(name)


@pytest.mark.parametrize("name", ["model", "/a/b", "./a/b", "a/b/c", "a/b/", "../b", "a\\b", "a/b\n", "~/b", ""])
def test_paths_are_no_hub_names(name):
    assert not is_hub_name(name)


def test_fetched_directory_is_loaded(hub, tmp_path):
    save(tmp_path / "snapshot", MODEL, PARAMS)
    asked = hub(tmp_path / "snapshot")
    assert_same_params(load("openai/some-clip")[1], PARAMS)
    assert [name for name, _ in asked] == ["openai/some-clip"]


def test_existing_path_is_not_asked_for(hub, tmp_path, monkeypatch):
    asked = hub(None)
    monkeypatch.chdir(tmp_path)
    save("openai/some-clip", MODEL, PARAMS)
    assert_same_params(load("openai/some-clip")[1], PARAMS)
    assert not asked


def test_pickles_are_asked_for_only_where_there_are_no_safetensors(hub, tmp_path):
    asked = hub(tmp_path)
    fetch("openai/some-clip")
    assert ["*.bin" in patterns for _, patterns in asked] == [False, True]
    (tmp_path / "model.safetensors").touch()
    asked.clear()
    fetch("openai/some-clip")
    assert ["*.bin" in patterns for _, patterns in asked] == [False]


def test_tokenizer_of_a_hub_name_is_fetched_without_the_weights(hub, tmp_path):
    asked = hub(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 32}}')
    assert load_tokenizer("openai/some-clip").context_length == 32
    assert asked == [("openai/some-clip", ("*.json", "*.txt"))]


@pytest.mark.parametrize("error", [OSError("connection\nrefused"), RuntimeError(""), ValueError("\n ")])
def test_any_failure_is_one_line_with_a_remedy(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=r"^openai/some-clip: no such path, .* pass its directory$") as caught:
        fetch("openai/some-clip")
    assert "\n" not in str(caught.value)
    assert type(error).__name__ in str(caught.value)


def test_offline_hub_with_an_empty_cache_is_one_line(tmp_path):
    program = "from clipjax.weights.hub import fetch; fetch('openai/some-clip')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("clipjax.errors.CheckpointError: openai/some-clip: no such path, and the Hugging Face hub")
    assert last.endswith("download it elsewhere and pass its directory")
