"""How params are called in files: one table for each layout, used in both directions.

A row pairs a path of the params tree with a tensor name and says how the numbers are laid out
there. Paths inside stacked blocks stand for one tensor per layer; `{}` is the layer number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from clipjax.models.config import CLIPConfig, LanguageConfig, ResNetConfig


class Layout(Enum):
    """How a file's tensor differs from ours."""

    SAME = "same"
    TRANSPOSED = "transposed"  # file [out, in], ours [in, out]
    CONVOLUTION = "convolution"  # file [out, in, h, w], ours [h, w, in, out]

    def from_file(self, x: np.ndarray) -> np.ndarray:
        """Arrange a file's tensor as ours."""
        axes = {"same": None, "transposed": (1, 0), "convolution": (2, 3, 1, 0)}[self.value]
        return x if axes is None else x.transpose(axes)

    def to_file(self, x: np.ndarray) -> np.ndarray:
        """Arrange our tensor as a file's."""
        axes = {"same": None, "transposed": (1, 0), "convolution": (3, 2, 0, 1)}[self.value]
        return x if axes is None else x.transpose(axes)

    @property
    def out_axis(self) -> int:
        """The axis of the file's matrix or vector along which query, key and value follow each other in one tensor."""
        return 0 if self is Layout.TRANSPOSED else -1

    def file_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Tell the shape in the file of a tensor that has `shape` here."""
        axes = {"same": range(len(shape)), "transposed": (1, 0), "convolution": (3, 2, 0, 1)}[self.value]
        return tuple(shape[axis] for axis in axes)


@dataclass(frozen=True)
class Row:
    """One row of a name table.

    `third` is set where a file keeps query, key and value side by side in one tensor, along the layout's `out_axis`.
    `layers` is the number of stacked layers, None outside the blocks.
    """

    path: str
    name: str
    layout: Layout = Layout.SAME
    layers: int | None = None
    third: int | None = None

    def names(self) -> tuple[str, ...]:
        """The tensor names this row stands for, in layer order."""
        return (self.name,) if self.layers is None else tuple(self.name.format(i) for i in range(self.layers))


_SAME, _T, _CONV = Layout.SAME, Layout.TRANSPOSED, Layout.CONVOLUTION

_HUGGINGFACE_BLOCK = {
    "norm1/scale": ("layer_norm1.weight", _SAME),
    "norm1/bias": ("layer_norm1.bias", _SAME),
    "attention/query/kernel": ("self_attn.q_proj.weight", _T),
    "attention/query/bias": ("self_attn.q_proj.bias", _SAME),
    "attention/key/kernel": ("self_attn.k_proj.weight", _T),
    "attention/key/bias": ("self_attn.k_proj.bias", _SAME),
    "attention/value/kernel": ("self_attn.v_proj.weight", _T),
    "attention/value/bias": ("self_attn.v_proj.bias", _SAME),
    "attention/out/kernel": ("self_attn.out_proj.weight", _T),
    "attention/out/bias": ("self_attn.out_proj.bias", _SAME),
    "norm2/scale": ("layer_norm2.weight", _SAME),
    "norm2/bias": ("layer_norm2.bias", _SAME),
    "mlp/fc1/kernel": ("mlp.fc1.weight", _T),
    "mlp/fc1/bias": ("mlp.fc1.bias", _SAME),
    "mlp/fc2/kernel": ("mlp.fc2.weight", _T),
    "mlp/fc2/bias": ("mlp.fc2.bias", _SAME),
}

_HUGGINGFACE_VISION = {
    "patch_embedding/kernel": ("embeddings.patch_embedding.weight", _CONV),
    "class_embedding": ("embeddings.class_embedding", _SAME),
    "position_embedding": ("embeddings.position_embedding.weight", _SAME),
    "pre_norm/scale": ("pre_layrnorm.weight", _SAME),
    "pre_norm/bias": ("pre_layrnorm.bias", _SAME),
    "post_norm/scale": ("post_layernorm.weight", _SAME),
    "post_norm/bias": ("post_layernorm.bias", _SAME),
}

_HUGGINGFACE_TEXT = {
    "token_embedding": ("embeddings.token_embedding.weight", _SAME),
    "position_embedding": ("embeddings.position_embedding.weight", _SAME),
    "final_norm/scale": ("final_layer_norm.weight", _SAME),
    "final_norm/bias": ("final_layer_norm.bias", _SAME),
}

# a third number marks which rows of the fused tensor belong to query, key and value
_OPENAI_BLOCK = {
    "norm1/scale": ("ln_1.weight", _SAME),
    "norm1/bias": ("ln_1.bias", _SAME),
    "attention/query/kernel": ("attn.in_proj_weight", _T, 0),
    "attention/query/bias": ("attn.in_proj_bias", _SAME, 0),
    "attention/key/kernel": ("attn.in_proj_weight", _T, 1),
    "attention/key/bias": ("attn.in_proj_bias", _SAME, 1),
    "attention/value/kernel": ("attn.in_proj_weight", _T, 2),
    "attention/value/bias": ("attn.in_proj_bias", _SAME, 2),
    "attention/out/kernel": ("attn.out_proj.weight", _T),
    "attention/out/bias": ("attn.out_proj.bias", _SAME),
    "norm2/scale": ("ln_2.weight", _SAME),
    "norm2/bias": ("ln_2.bias", _SAME),
    "mlp/fc1/kernel": ("mlp.c_fc.weight", _T),
    "mlp/fc1/bias": ("mlp.c_fc.bias", _SAME),
    "mlp/fc2/kernel": ("mlp.c_proj.weight", _T),
    "mlp/fc2/bias": ("mlp.c_proj.bias", _SAME),
}

# query, key and value side by side, and all matrices as ours: GPT-2's Conv1D keeps them [in, out]
_GPT2_BLOCK = {
    "norm1/scale": ("ln_1.weight", _SAME),
    "norm1/bias": ("ln_1.bias", _SAME),
    "attention/query/kernel": ("attn.c_attn.weight", _SAME, 0),
    "attention/query/bias": ("attn.c_attn.bias", _SAME, 0),
    "attention/key/kernel": ("attn.c_attn.weight", _SAME, 1),
    "attention/key/bias": ("attn.c_attn.bias", _SAME, 1),
    "attention/value/kernel": ("attn.c_attn.weight", _SAME, 2),
    "attention/value/bias": ("attn.c_attn.bias", _SAME, 2),
    "attention/out/kernel": ("attn.c_proj.weight", _SAME),
    "attention/out/bias": ("attn.c_proj.bias", _SAME),
    "norm2/scale": ("ln_2.weight", _SAME),
    "norm2/bias": ("ln_2.bias", _SAME),
    "mlp/fc1/kernel": ("mlp.c_fc.weight", _SAME),
    "mlp/fc1/bias": ("mlp.c_fc.bias", _SAME),
    "mlp/fc2/kernel": ("mlp.c_proj.weight", _SAME),
    "mlp/fc2/bias": ("mlp.c_proj.bias", _SAME),
}

_GPT2_AROUND = {
    "token_embedding": ("wte.weight", _SAME),
    "position_embedding": ("wpe.weight", _SAME),
    "final_norm/scale": ("ln_f.weight", _SAME),
    "final_norm/bias": ("ln_f.bias", _SAME),
}

_OPENAI_VISION = {
    "patch_embedding/kernel": ("conv1.weight", _CONV),
    "class_embedding": ("class_embedding", _SAME),
    "position_embedding": ("positional_embedding", _SAME),
    "pre_norm/scale": ("ln_pre.weight", _SAME),
    "pre_norm/bias": ("ln_pre.bias", _SAME),
    "post_norm/scale": ("ln_post.weight", _SAME),
    "post_norm/bias": ("ln_post.bias", _SAME),
}

_OPENAI_TEXT = {
    "token_embedding": ("token_embedding.weight", _SAME),
    "position_embedding": ("positional_embedding", _SAME),
    "final_norm/scale": ("ln_final.weight", _SAME),
    "final_norm/bias": ("ln_final.bias", _SAME),
}

_OPENAI_POOL = {
    "attention_pool/position_embedding": ("positional_embedding", _SAME),
    "attention_pool/query/kernel": ("q_proj.weight", _T),
    "attention_pool/query/bias": ("q_proj.bias", _SAME),
    "attention_pool/key/kernel": ("k_proj.weight", _T),
    "attention_pool/key/bias": ("k_proj.bias", _SAME),
    "attention_pool/value/kernel": ("v_proj.weight", _T),
    "attention_pool/value/bias": ("v_proj.bias", _SAME),
}


def huggingface_names(config: CLIPConfig, vision: str = "vision_model.", text: str = "text_model.") -> tuple[Row, ...]:
    """Return the table of transformers' CLIP classes; `vision` and `text` are the prefixes of the towers."""
    if isinstance(config.vision, ResNetConfig):
        raise ValueError("transformers has no CLIP with a ResNet")
    rows: list[Row] = []
    if config.vision is not None:
        rows += _rows("vision/", vision, _HUGGINGFACE_VISION)
        rows += _rows("vision/blocks/", vision + "encoder.layers.{}.", _HUGGINGFACE_BLOCK, config.vision.layers)
        if config.embed_dim is not None:
            rows.append(Row("image_projection/kernel", "visual_projection.weight", _T))
    if config.text is not None:
        rows += _rows("text/", text, _HUGGINGFACE_TEXT)
        rows += _rows("text/blocks/", text + "encoder.layers.{}.", _HUGGINGFACE_BLOCK, config.text.layers)
        if config.embed_dim is not None:
            rows.append(Row("text_projection/kernel", "text_projection.weight", _T))
    if config.vision is not None and config.text is not None:
        rows.append(Row("logit_scale", "logit_scale"))
    return tuple(rows)


def openai_names(config: CLIPConfig, text: str = "") -> tuple[Row, ...]:
    """Return the table of OpenAI's and OpenCLIP's state dicts; `text` is OpenCLIP's custom text prefix."""
    if config.vision is None or config.text is None:
        raise ValueError("OpenAI's layout holds both towers")
    if isinstance(config.vision, ResNetConfig):
        rows = list(resnet_names(config.vision))
    else:
        rows = [*_rows("vision/", "visual.", _OPENAI_VISION)]
        rows += _rows("vision/blocks/", "visual.transformer.resblocks.{}.", _OPENAI_BLOCK, config.vision.layers)
        rows.append(Row("image_projection/kernel", "visual.proj"))
    rows += _rows("text/", text, _OPENAI_TEXT)
    rows += _rows("text/blocks/", text + "transformer.resblocks.{}.", _OPENAI_BLOCK, config.text.layers)
    rows.append(Row("text_projection/kernel", text + "text_projection"))
    rows.append(Row("logit_scale", "logit_scale"))
    return tuple(rows)


def gpt2_names(config: LanguageConfig, prefix: str = "transformer.") -> tuple[Row, ...]:
    """Return the table of transformers' GPT-2; the files OpenAI published have no prefix."""
    return (
        *_rows("", prefix, _GPT2_AROUND),
        *_rows("blocks/", prefix + "h.{}.", _GPT2_BLOCK, config.layers),
    )


def _rows(path: str, name: str, table: dict, layers: int | None = None) -> Iterator[Row]:
    for leaf, (tensor, layout, *third) in table.items():
        yield Row(path + leaf, name + tensor, layout, layers, *third)


def resnet_names(config: ResNetConfig) -> Iterator[Row]:
    """Yield the part of OpenAI's table that a ResNet and its projection have."""
    for i in (1, 2, 3):
        yield Row(f"vision/conv{i}/kernel", f"visual.conv{i}.weight", _CONV)
        yield from _batch_norm(f"vision/bn{i}", f"visual.bn{i}")
    for stage, blocks in enumerate(config.blocks, start=1):
        for block in range(blocks):
            ours, theirs = f"vision/stage{stage}_block{block}", f"visual.layer{stage}.{block}"
            for i in (1, 2, 3):
                yield Row(f"{ours}/conv{i}/kernel", f"{theirs}.conv{i}.weight", _CONV)
                yield from _batch_norm(f"{ours}/bn{i}", f"{theirs}.bn{i}")
            if block == 0:
                yield Row(f"{ours}/downsample_conv/kernel", f"{theirs}.downsample.0.weight", _CONV)
                yield from _batch_norm(f"{ours}/downsample_bn", f"{theirs}.downsample.1")
    yield from _rows("vision/", "visual.attnpool.", _OPENAI_POOL)
    yield Row("image_projection/kernel", "visual.attnpool.c_proj.weight", _T)
    yield Row("image_projection/bias", "visual.attnpool.c_proj.bias")


def _batch_norm(ours: str, theirs: str) -> Iterator[Row]:
    for leaf, tensor in (
        ("scale", "weight"),
        ("bias", "bias"),
        ("mean", "running_mean"),
        ("var", "running_var"),
    ):
        yield Row(f"{ours}/{leaf}", f"{theirs}.{tensor}")
