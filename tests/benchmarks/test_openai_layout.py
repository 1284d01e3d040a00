"""The state dict that PyTorch writes in OpenAI's layout, which full-size vision transformers are compared with."""

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def peer():
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    vision = tower | {"hidden_size": 8, "image_size": 8, "patch_size": 4}
    text = tower | {"hidden_size": 16, "vocab_size": 30, "max_position_embeddings": 6}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=4)).eval()


def test_every_number_has_its_place(peer):
    from benchmarks.openai_layout import openai_layout

    state = {name: tensor for name, tensor in peer.state_dict().items() if not name.endswith("position_ids")}
    assert sum(x.numel() for x in openai_layout(state).values()) == sum(x.numel() for x in state.values())


def test_pytorchs_own_attention_computes_the_same_with_the_fused_tensors(peer):
    from benchmarks.openai_layout import openai_layout

    prefix = "visual.transformer.resblocks.1.attn."
    state = {n.removeprefix(prefix): x for n, x in openai_layout(peer.state_dict()).items() if n.startswith(prefix)}
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    attention.load_state_dict(state, strict=True)
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        wanted = peer.vision_model.encoder.layers[1].self_attn(x)[0]
        torch.testing.assert_close(attention(x, x, x, need_weights=False)[0], wanted)
