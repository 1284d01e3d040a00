"""transformers' GPT-2: its fields and tensors, and both directions against transformers itself."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import LANGUAGE, assert_same_params, random_params

from clipjax.errors import CheckpointError, ConfigError, OutputError
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.inputs.tokenizer_trainer import train_tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.models.beam_search import beam_search
from clipjax.models.causal_lm import CausalLM
from clipjax.models.config import LanguageConfig
from clipjax.models.decoding import greedy
from clipjax.models.kv_cache import read_prompt, read_token
from clipjax.weights.gpt2 import read_config
from clipjax.weights.language_model import load_language_model, save_language_model
from clipjax.weights.safetensors_file import read_safetensors, write_safetensors

MODEL = CausalLM(LANGUAGE)
PARAMS = random_params(MODEL)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, LANGUAGE.vocab_size, (8, 6)), jnp.int32)


@pytest.fixture
def folder(tmp_path):
    """A saved model, to be edited."""
    save_language_model(tmp_path / "saved", MODEL, PARAMS)
    return tmp_path / "saved"


def edit_config(folder, **changes):
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**document, **changes}))


def edit_weights(folder, change):
    file = folder / "model.safetensors"
    tensors = {name: np.array(tensor.read()) for name, tensor in read_safetensors(file).items()}
    change(tensors)
    write_safetensors(file, tensors)


def test_what_is_saved_is_loaded(folder):
    model, params = load_language_model(folder)
    assert model == MODEL
    assert_same_params(params, PARAMS)


def test_tokenizer_beside_the_weights_belongs_to_them(tmp_path):
    tokenizer = train_tokenizer(["a dog runs", "a dog sleeps"] * 3, 530, 24)
    ends = {"bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    model = CausalLM(dataclasses.replace(LANGUAGE, vocab_size=tokenizer.vocab_size, **ends))
    beside = lambda folder: write_tokenizer(folder, folder, tokenizer)
    save_language_model(tmp_path / "saved", model, random_params(model), extra=beside)
    found = load_tokenizer(tmp_path / "saved")
    assert (found, found.context_length) == (tokenizer, 24)


def test_matrices_lie_as_conv1d_has_them(folder):
    tensors = read_safetensors(folder / "model.safetensors")
    fused = tensors["transformer.h.1.attn.c_attn.weight"].read()
    assert fused.shape == (24, 72)
    assert_array_equal(fused[:, 24:48], PARAMS["blocks"]["attention"]["key"]["kernel"][1])
    assert tensors["transformer.h.0.mlp.c_fc.weight"].shape == (24, 40)


def test_files_as_openai_published_them_are_read(folder):
    def as_published(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = np.tri(24, dtype=np.float32)[None, None]
            tensors[f"h.{layer}.attn.masked_bias"] = np.float32([-1e4])
        tensors["lm_head.weight"] = tensors["wte.weight"]

    edit_weights(folder, as_published)
    assert_same_params(load_language_model(folder)[1], PARAMS)


def test_absent_fields_are_those_of_gpt2(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_inner": null}')
    assert read_config(tmp_path) == LanguageConfig(50257, 1024, 768, 12, 12, 3072)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'; clipjax reads gpt2"),
        ({"activation_function": "relu"}, "activation_function is 'relu'; known are gelu_new"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True; clipjax supports False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False; clipjax supports True only"),
        ({"n_head": 5}, "5 heads do not divide the width 24"),
        ({"n_layer": "2"}, "n_layer is '2'"),
        ({"eos_token_id": 13}, "eos_token_id is 13; the vocabulary has 13 tokens"),
    ],
)
def test_configuration_that_is_no_gpt2_is_refused_by_name(folder, changes, complaint):
    edit_config(folder, **changes)
    with pytest.raises(ConfigError, match=rf"config\.json: .*{complaint}") as caught:
        load_language_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("transformer.ln_f.bias"), "missing transformer.ln_f.bias; the file is not a whole model"),
        (lambda t: t.update(extra=np.ones(2, np.float32)), "unexpected extra"),
        (
            lambda t: t.update({"transformer.h.0.attn.c_attn.weight": np.ones((72, 24), np.float32)}),
            r"c_attn.weight has shape \[72, 24\], the configuration asks for \[24, 72\]",
        ),
        (
            lambda t: t.update({"lm_head.weight": np.ones((13, 24), np.float32)}),
            "lm_head.weight is not the token table",
        ),
        (lambda t: t["transformer.wpe.weight"].fill(np.nan), "transformer.wpe.weight holds NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder, change, complaint):
    edit_weights(folder, change)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: .*{complaint}"):
        load_language_model(folder)


def test_place_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such directory; pass one with config\.json"):
        load_language_model(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        load_language_model(tmp_path / "empty")


def test_params_that_would_not_load_are_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="not written, since position_embedding holds NaN"):
        save_language_model(tmp_path / "bad", MODEL, {**PARAMS, "position_embedding": jnp.full((24, 24), jnp.nan)})
    with pytest.raises(ConfigError, match="params have token_embedding"):
        save_language_model(tmp_path / "bad", MODEL, {**PARAMS, "token_embedding": jnp.zeros((14, 24))})
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(folder):
    with pytest.raises(OutputError, match="exists already"):
        save_language_model(folder, MODEL, PARAMS)


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """transformers' GPT-2 with the same weights."""
    pytest.importorskip("torch")
    from transformers import GPT2LMHeadModel

    place = tmp_path_factory.mktemp("peer") / "saved"
    save_language_model(place, MODEL, PARAMS)
    found, info = GPT2LMHeadModel.from_pretrained(place, output_loading_info=True)
    assert not any(info.values()), info
    return found.eval()


def peer_logits(peer, **inputs):
    import torch

    with torch.no_grad():
        return peer(**inputs).logits.numpy()


@pytest.mark.torch
def test_transformers_computes_the_same_from_what_we_save(peer):
    import torch

    theirs = peer_logits(peer, input_ids=torch.tensor(np.asarray(TOKENS), dtype=torch.long))
    assert_allclose(MODEL.logits(PARAMS, TOKENS), theirs, atol=1e-4)


@pytest.mark.torch
def test_transformers_computes_the_same_from_embeddings_before_a_text(peer):
    import torch

    images = np.random.default_rng(1).normal(size=(8, 4, 24)).astype(np.float32)
    whole = np.concatenate([images, MODEL.embed_tokens(PARAMS, TOKENS)], axis=1)
    theirs = peer_logits(peer, inputs_embeds=torch.tensor(whole))
    assert_allclose(MODEL.logits(PARAMS, embeddings=jnp.asarray(whole)), theirs, atol=1e-4)
    logits, cache = read_prompt(MODEL, PARAMS, jnp.asarray(whole[:, :9]), room=1)
    assert_allclose(logits, theirs[:, 8], atol=1e-4)
    assert_allclose(read_token(MODEL, PARAMS, jnp.asarray(whole[:, 9]), cache)[0], theirs[:, 9], atol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_we_compute_the_same_from_what_transformers_saves(tmp_path, activation):
    torch = pytest.importorskip("torch")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=31, n_positions=20, n_embd=32, n_layer=3, n_head=4, activation_function=activation,
        bos_token_id=29, eos_token_id=30,
    )  # fmt: skip
    peer = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    peer.save_pretrained(tmp_path / "theirs")
    model, params = load_language_model(tmp_path / "theirs")
    assert model.config == LanguageConfig(31, 20, 32, 3, 4, 128, activation, bos_token_id=29, eos_token_id=30)
    tokens = np.random.default_rng(0).integers(0, 31, (3, 20))
    theirs = peer_logits(peer, input_ids=torch.tensor(tokens))
    assert_allclose(model.logits(params, tokens.astype(np.int32)), theirs, atol=1e-4)


def generated(peer, **settings):
    import torch

    tokens = torch.tensor(np.asarray(TOKENS), dtype=torch.long)
    mask = torch.ones_like(tokens)  # the prompts hold end tokens, which are not padding
    found = peer.generate(tokens, attention_mask=mask, max_new_tokens=9, do_sample=False, pad_token_id=12, **settings)
    texts = np.full((8, 9), LANGUAGE.eos_token_id)
    texts[:, : found.shape[1] - 6] = found[:, 6:].numpy()
    return texts


@pytest.mark.torch
def test_transformers_decodes_greedily_to_the_same_texts(peer):
    ours = greedy(MODEL, PARAMS, MODEL.embed_tokens(PARAMS, TOKENS), max_tokens=9)
    assert_array_equal(ours.tokens, generated(peer, num_beams=1))


@pytest.mark.torch
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_transformers_searches_beams_to_the_same_texts(peer, penalty, early_stopping):
    settings = {"length_penalty": penalty, "early_stopping": early_stopping}
    prompts = MODEL.embed_tokens(PARAMS, TOKENS)
    ours = beam_search(MODEL, PARAMS, prompts, beams=3, max_tokens=9, **settings)
    settings["early_stopping"] = early_stopping or "never"  # their False is a guess about when to stop
    assert_array_equal(ours.tokens, generated(peer, num_beams=3, **settings))


def test_file_in_half_precision_keeps_its_type_when_asked(tmp_path):
    half = {**PARAMS, "token_embedding": PARAMS["token_embedding"].astype("float16")}
    save_language_model(tmp_path / "half", MODEL, half)
    assert load_language_model(tmp_path / "half", dtype=None)[1]["token_embedding"].dtype == "float16"
    assert load_language_model(tmp_path / "half")[1]["token_embedding"].dtype == "float32"
