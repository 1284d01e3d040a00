"""OpenAI's CLIP with a ResNet image tower in PyTorch, under OpenAI's parameter names; a reference, not a library.

Written from the description of the architecture. transformers has no such model, so the ResNets
of clipjax are compared with this one.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu, scaled_dot_product_attention

from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig


class OpenAIResNetCLIP(nn.Module):
    """Both towers; `state_dict()` has the names and shapes of OpenAI's files."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        vision, text = config.vision, config.text
        assert isinstance(vision, ResNetConfig) and text is not None and config.embed_dim is not None
        self.visual = ImageTower(vision, config.embed_dim)
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.positional_embedding = nn.Parameter(torch.randn(text.context_length, text.width) * 0.01)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(TextBlock(text) for _ in range(text.layers))})
        self.ln_final = nn.LayerNorm(text.width)
        self.text_projection = nn.Parameter(torch.randn(text.width, config.embed_dim) * text.width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embed normalised pixels [B, 3, H, W], without L2 normalisation."""
        return self.visual(pixels)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Embed token ids [B, L], pooled at the largest id, without L2 normalisation."""
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.transformer["resblocks"]:
            x = block(x)
        end = self.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=1)]
        return end @ self.text_projection

    def logits(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Scaled cosines [images, texts]."""
        image, text = (nn.functional.normalize(x) for x in (self.encode_image(pixels), self.encode_text(ids)))
        return self.logit_scale.exp() * image @ text.T


class ImageTower(nn.Module):
    """Three convolutions, four stages of bottlenecks, attention pooling."""

    def __init__(self, config: ResNetConfig, embed_dim: int):
        super().__init__()
        half = config.width // 2
        for i, (n_in, n_out) in enumerate([(3, half), (half, half), (half, config.width)], start=1):
            self.add_module(f"conv{i}", nn.Conv2d(n_in, n_out, 3, stride=2 if i == 1 else 1, padding=1, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(n_out))
        n_in = config.width
        for i, blocks in enumerate(config.blocks):
            planes, stage = config.width * 2**i, nn.Sequential()
            for block in range(blocks):
                stage.append(Bottleneck(n_in, planes, stride=2 if i > 0 and block == 0 else 1))
                n_in = 4 * planes
            self.add_module(f"layer{i + 1}", stage)
        self.attnpool = AttentionPool(n_in, config.grid**2, config.heads, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = relu(norm(convolution(x)))
        x = nn.functional.avg_pool2d(x, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.attnpool(x.flatten(2).mT)


class Bottleneck(nn.Module):
    """A residual block whose stride is an average pooling, before the last convolution and before the shortcut's."""

    def __init__(self, n_in: int, planes: int, stride: int):
        super().__init__()
        n_out = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(n_in, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
        self.pool = nn.AvgPool2d(stride)
        self.downsample = None
        if stride > 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.pool(y)))
        return relu(y + (x if self.downsample is None else self.downsample(self.pool(x))))


class AttentionPool(nn.Module):
    """Attention whose one query is the mean of all positions."""

    def __init__(self, width: int, positions: int, heads: int, embed_dim: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(positions + 1, width) * width**-0.5)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding
        mixed = attention(self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x), self.heads)
        return self.c_proj(mixed[:, 0])


class TextBlock(nn.Module):
    """A pre-norm block with causal attention and QuickGELU."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attn = CausalAttention(config.width, config.heads)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(config.width, config.mlp_width), "c_proj": nn.Linear(config.mlp_width, config.width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))


class CausalAttention(nn.Module):
    """Self-attention with query, key and value in one matrix."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self.out_proj(attention(query, key, value, self.heads, causal=True))


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """Attend in `heads` parts of the width."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return scaled_dot_product_attention(query, key, value, is_causal=causal).transpose(1, 2).flatten(2)


def as_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cast a state dict as OpenAI's files are: matrices and biases of layers float16, norms and embeddings float32."""

    def is_half(name: str) -> bool:
        *parents, leaf = name.split(".")
        norm = parents and (parents[-1].startswith(("bn", "ln_")) or parents[-2:] == ["downsample", "1"])
        kept = norm or "embedding" in name or leaf in ("logit_scale", "num_batches_tracked")
        return not kept

    return {name: tensor.half() if is_half(name) else tensor for name, tensor in state.items()}
