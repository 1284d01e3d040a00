"""transformers' CLIPModel under OpenAI's names, written from PyTorch's own modules; a reference, not a library.

It shares no table with clipjax, which is compared with it.
"""

import re

import torch
from torch import Tensor

_OUTSIDE_BLOCKS = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_INSIDE_BLOCKS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_BLOCK = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def openai_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a CLIPModel; query, key and value become what `nn.MultiheadAttention` fuses them to."""
    renamed = {}
    for name, tensor in state.items():
        if block := _BLOCK.fullmatch(name):
            tower, number, module, kind = block.groups()
            place = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}"
            if module in _INSIDE_BLOCKS:
                renamed[f"{place}.{_INSIDE_BLOCKS[module]}.{kind}"] = tensor
            elif module == "self_attn.q_proj":
                parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
                renamed[f"{place}.attn.in_proj_{kind}"] = torch.cat(parts)
        elif name in _PROJECTIONS:
            renamed[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif name in _OUTSIDE_BLOCKS:
            renamed[_OUTSIDE_BLOCKS[name]] = tensor
    return renamed
