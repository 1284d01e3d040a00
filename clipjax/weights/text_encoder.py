"""The text tower alone, as text-to-image pipelines take it."""

import dataclasses

from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP, Params


def text_encoder(model: CLIP, params: Params, *, projection: bool = False) -> tuple[CLIP, Params]:
    """Take the text tower out of a CLIP; with its `projection` where a pipeline wants the embedding as well.

    Saved as "huggingface" it is transformers' CLIPTextModel, which diffusers' pipelines load as `text_encoder`, or
    CLIPTextModelWithProjection.

    Raises:
      ConfigError: the model has no text tower, or no projection.
    """
    if model.config.text is None:
        raise ConfigError("this checkpoint has no text tower; pass one that has")
    names = ("text", "text_projection") if projection else ("text",)
    if not params.keys() >= set(names):
        raise ConfigError("this checkpoint's text tower has no projection; leave it out")
    embed_dim = model.config.embed_dim if projection else None
    config = dataclasses.replace(model.config, vision=None, embed_dim=embed_dim)
    return dataclasses.replace(model, config=config), {name: params[name] for name in names}
