"""Make the small models beside this file and what PyTorch computes with them in float64, kept as float32.

    python tests/golden/make_models.py

`vit/` is saved by transformers in its own layout. `resnet/` has OpenCLIP's layout; its towers are written
here in torch.nn.functional after OpenAI's published model code, with no line of clipjax. Run it again only to
change the models: the numbers are committed, and tests/test_golden.py compares clipjax with them.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).resolve().parent
TEXTS = [
    [48, 5, 17, 49, 0, 0, 0, 0],
    [48, 31, 2, 2, 8, 46, 49, 0],
    [48, 49, 0, 0, 0, 0, 0, 0],
    [48, 1, 2, 3, 4, 5, 6, 49],
]


def make_vit() -> None:
    """A CLIPModel: exact GELU, unusual head counts and eps, an image that fills no whole number of patches."""
    from transformers import CLIPConfig, CLIPModel

    shared = {"num_hidden_layers": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-3}
    config = CLIPConfig(
        vision_config={**shared, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24,
                       "image_size": 14, "patch_size": 4},
        text_config={**shared, "hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20, "vocab_size": 50,
                     "max_position_embeddings": 8, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 0},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        model.logit_scale.fill_(1.7)
    model.save_pretrained(FOLDER / "vit")

    model = model.double()
    pixels = draw_pixels(14).requires_grad_()
    output = model(pixel_values=pixels, input_ids=torch.tensor(TEXTS))
    loss = F.cross_entropy(output.logits_per_image, torch.arange(4))
    loss.backward()
    image = model.get_image_features(pixel_values=pixels).pooler_output
    text = model.get_text_features(input_ids=torch.tensor(TEXTS)).pooler_output
    write("vit", pixels, image, text, output.logits_per_image, loss=loss, grad_images=nhwc(pixels.grad))


def make_resnet() -> None:
    """A ModifiedResNet with two blocks in its second stage, and a QuickGELU text tower, stored as float16."""
    torch.manual_seed(1)
    vision = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 2, "head_width": 16, "patch_size": None}
    text = {"context_length": 8, "vocab_size": 50, "width": 12, "heads": 3, "layers": 2}
    weights = resnet_weights(vision, embed_dim=8) | text_weights(text, embed_dim=8) | {"logit_scale": torch.tensor(1.3)}
    weights = {name: tensor.half() for name, tensor in weights.items()}
    folder = FOLDER / "resnet"
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / "open_clip_pytorch_model.bin")
    config = {"model_cfg": {"embed_dim": 8, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")

    w = {name: tensor.double() for name, tensor in weights.items()}
    pixels = draw_pixels(64)
    image, text = encode_resnet(w, pixels, vision), encode_text(w, torch.tensor(TEXTS), heads=3)
    logits = w["logit_scale"].exp() * F.normalize(image) @ F.normalize(text).T
    write("resnet", pixels, image, text, logits)


def resnet_weights(config: dict, embed_dim: int) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}

    def convolution(name, n_in, n_out, size):
        weights[f"visual.{name}.weight"] = torch.randn(n_out, n_in, size, size) * math.sqrt(2 / (n_in * size**2))

    def batch_norm(name, channels):
        weights[f"visual.{name}.weight"] = 1 + 0.2 * torch.randn(channels)
        weights[f"visual.{name}.bias"] = 0.2 * torch.randn(channels)
        weights[f"visual.{name}.running_mean"] = 0.3 * torch.randn(channels)
        weights[f"visual.{name}.running_var"] = 0.5 + torch.rand(channels)

    width = config["width"]
    for i, (n_in, n_out) in enumerate([(3, width // 2), (width // 2, width // 2), (width // 2, width)], start=1):
        convolution(f"conv{i}", n_in, n_out, 3)
        batch_norm(f"bn{i}", n_out)
    n_in = width
    for stage, blocks in enumerate(config["layers"], start=1):
        planes = width * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for i, (a, b, size) in enumerate(
                [(n_in, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1)], start=1
            ):
                convolution(f"{name}.conv{i}", a, b, size)
                batch_norm(f"{name}.bn{i}", b)
            if block == 0:
                convolution(f"{name}.downsample.0", n_in, 4 * planes, 1)
                batch_norm(f"{name}.downsample.1", 4 * planes)
            n_in = 4 * planes
    places = (config["image_size"] // 32) ** 2 + 1
    weights["visual.attnpool.positional_embedding"] = 0.5 * torch.randn(places, n_in)
    for name, n_out in (("q", n_in), ("k", n_in), ("v", n_in), ("c", embed_dim)):
        weights[f"visual.attnpool.{name}_proj.weight"] = torch.randn(n_out, n_in) / math.sqrt(n_in)
        weights[f"visual.attnpool.{name}_proj.bias"] = 0.3 * torch.randn(n_out)
    return weights


def text_weights(config: dict, embed_dim: int) -> dict[str, torch.Tensor]:
    width = config["width"]
    weights = {
        "token_embedding.weight": 0.5 * torch.randn(config["vocab_size"], width),
        "positional_embedding": 0.5 * torch.randn(config["context_length"], width),
        "text_projection": torch.randn(width, embed_dim) / math.sqrt(width),
    }

    def norm(name):
        weights[f"{name}.weight"] = 1 + 0.2 * torch.randn(width)
        weights[f"{name}.bias"] = 0.2 * torch.randn(width)

    norm("ln_final")
    for layer in range(config["layers"]):
        block = f"transformer.resblocks.{layer}"
        norm(f"{block}.ln_1")
        norm(f"{block}.ln_2")
        for name, n_out, n_in, dot in (
            ("attn.in_proj", 3 * width, width, "_"),
            ("attn.out_proj", width, width, "."),
            ("mlp.c_fc", 4 * width, width, "."),
            ("mlp.c_proj", width, 4 * width, "."),
        ):
            weights[f"{block}.{name}{dot}weight"] = 1.5 * torch.randn(n_out, n_in) / math.sqrt(n_in)
            weights[f"{block}.{name}{dot}bias"] = 0.2 * torch.randn(n_out)
    return weights


def encode_resnet(w: dict[str, torch.Tensor], x: torch.Tensor, config: dict) -> torch.Tensor:
    def convolution(x, name, **options):
        return F.conv2d(x, w[f"visual.{name}.weight"], **options)

    def batch_norm(x, name):
        mean, var, scale, bias = (w[f"visual.{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, scale, bias)

    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = batch_norm(convolution(x, f"conv{i}", stride=stride, padding=1), f"bn{i}").relu()
    x = F.avg_pool2d(x, 2)
    for stage, blocks in enumerate(config["layers"], start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            branch = batch_norm(convolution(x, f"{name}.conv1"), f"{name}.bn1").relu()
            branch = batch_norm(convolution(branch, f"{name}.conv2", padding=1), f"{name}.bn2").relu()
            branch = batch_norm(convolution(F.avg_pool2d(branch, stride), f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                shortcut = convolution(F.avg_pool2d(x, stride), f"{name}.downsample.0")
                x = batch_norm(shortcut, f"{name}.downsample.1")
            x = (branch + x).relu()

    tokens = x.flatten(2).permute(2, 0, 1)
    pool = {name.removeprefix("visual.attnpool."): p for name, p in w.items() if name.startswith("visual.attnpool.")}
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool["positional_embedding"][:, None]
    width = tokens.shape[2]
    pooled, _ = F.multi_head_attention_forward(
        tokens[:1], tokens, tokens, width, width // config["head_width"],
        None, torch.cat([pool[f"{name}_proj.bias"] for name in "qkv"]), None, None, False, 0.0,
        pool["c_proj.weight"], pool["c_proj.bias"], training=False, need_weights=False, use_separate_proj_weight=True,
        q_proj_weight=pool["q_proj.weight"], k_proj_weight=pool["k_proj.weight"], v_proj_weight=pool["v_proj.weight"],
    )  # fmt: skip
    return pooled[0]


def encode_text(w: dict[str, torch.Tensor], tokens: torch.Tensor, heads: int) -> torch.Tensor:
    x = (w["token_embedding.weight"][tokens] + w["positional_embedding"]).transpose(0, 1)
    length, _, width = x.shape
    future = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1)

    def norm(x, name):
        return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"])

    for layer in range(2):
        block = f"transformer.resblocks.{layer}"
        y = norm(x, f"{block}.ln_1")
        x = x + F.multi_head_attention_forward(
            y, y, y, width, heads, w[f"{block}.attn.in_proj_weight"], w[f"{block}.attn.in_proj_bias"], None, None,
            False, 0.0, w[f"{block}.attn.out_proj.weight"], w[f"{block}.attn.out_proj.bias"], training=False,
            need_weights=False, attn_mask=future,
        )[0]  # fmt: skip
        y = F.linear(norm(x, f"{block}.ln_2"), w[f"{block}.mlp.c_fc.weight"], w[f"{block}.mlp.c_fc.bias"])
        x = x + F.linear(y * torch.sigmoid(1.702 * y), w[f"{block}.mlp.c_proj.weight"], w[f"{block}.mlp.c_proj.bias"])
    x = norm(x, "ln_final").transpose(0, 1)
    return x[torch.arange(len(tokens)), tokens.argmax(dim=1)] @ w["text_projection"]


def draw_pixels(size: int) -> torch.Tensor:
    """Draw multiples of a half, which compress well."""
    return torch.randint(-4, 5, (4, 3, size, size)).double() / 2


def nhwc(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 2, 3, 1)


def write(name: str, pixels: torch.Tensor, image, text, logits, **more) -> None:
    arrays = {"images": nhwc(pixels), "image": image, "text": text, "logits": logits, **more}
    arrays = {key: value.detach().float().numpy() for key, value in arrays.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", texts=np.array(TEXTS, np.int32), **arrays)


if __name__ == "__main__":
    make_vit()
    make_resnet()
