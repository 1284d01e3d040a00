"""The text tower of a tuned CLIP where text-to-image pipelines expect theirs."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pages import blocks
from small_models import random_texts, small_clip

from clipjax.errors import ConfigError
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.models.config import TextConfig
from clipjax.weights.load import load
from clipjax.weights.save import save
from clipjax.weights.text_encoder import text_encoder

TEXT = TextConfig(49408, 16, width=32, layers=2, heads=2, mlp_width=40, bos_token_id=49406, eos_token_id=49407)


@pytest.mark.parametrize("projection", [False, True])
def test_the_tower_is_read_back_with_the_same_states(tmp_path, projection):
    model, params = small_clip()
    save(tmp_path / "text_encoder", *text_encoder(model, params, projection=projection))
    found, own = load(tmp_path / "text_encoder")
    tokens = random_texts(model.config.text)
    assert found.config.vision is None and found.config.embed_dim == (16 if projection else None)
    assert_array_equal(found.text_features(own, tokens).tokens, model.text_features(params, tokens).tokens)
    if projection:
        assert_array_equal(found.encode_text(own, tokens), model.encode_text(params, tokens))


def test_what_a_model_lacks_is_said():
    model, params = small_clip()
    alone = text_encoder(model, params)
    with pytest.raises(ConfigError, match="no projection"):
        text_encoder(*alone, projection=True)
    with pytest.raises(ConfigError, match="no text tower"):
        text_encoder(*small_clip(text=None))


@pytest.mark.torch
def test_a_pipeline_of_diffusers_draws_an_image_with_it_and_with_moved_states(tmp_path):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder, (model, params) = tmp_path / "pipeline", small_clip(text=TEXT)
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(tmp_path / "tokenizer", tmp_path, openai_tokenizer())
    torch.manual_seed(0)
    config = CLIPTextConfig(vocab_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    untuned = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(block_out_channels=[32], latent_channels=4, norm_num_groups=8),
        text_encoder=CLIPTextModel(config),
        tokenizer=CLIPTokenizer.from_pretrained(tmp_path / "tokenizer", model_max_length=16),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=32, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
        ),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    untuned.save_pretrained(folder)
    save(folder / "text_encoder", *text_encoder(model, params), overwrite=True)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def states(text):
        ids = pipeline.tokenizer(text, padding="max_length", max_length=16, return_tensors="pt").input_ids
        found = pipeline.text_encoder(ids)
        # the padding of CLIP's tokenizer is not that of clipjax's, but these are the same ids
        ours = model.text_features(params, jnp.asarray(ids.numpy(), jnp.int32))
        assert_allclose(found.last_hidden_state.detach(), ours.tokens, atol=1e-4)
        assert_allclose(found.pooler_output.detach(), ours.pooled, atol=1e-4)
        return found

    def drawn(**given):
        settings = {"num_inference_steps": 2, "output_type": "np", "guidance_scale": 1.0}
        return pipeline(**given, **settings, generator=torch.Generator().manual_seed(0)).images[0]

    base, difference = states("a red dog"), states("the first image is darker, the second brighter")
    plain = drawn(prompt="a red dog")
    assert plain.shape == (8, 8, 3) and np.isfinite(plain).all()
    assert_allclose(drawn(prompt_embeds=base.last_hidden_state), plain, atol=1e-4)
    moved = drawn(prompt_embeds=base.last_hidden_state + 0.5 * difference.pooler_output[:, None])
    assert np.abs(moved - plain).max() > 1e-3
    (page,) = [program for program in blocks("docs/methods/pcclip.md", "python") if "pipe.text_encoder" in program]
    names = {"pipe": pipeline}
    exec(compile(page, "<docs/methods/pcclip.md>", "exec"), names)
    assert names["image"].size == (8, 8)
