"""The PyTorch ResNet that full-size models are compared with, against numbers of OpenAI's own code."""

import numpy as np
import pytest

from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CONFIG = CLIPConfig(
    ResNetConfig(64, 4, (1, 2, 1, 1), 2),
    TextConfig(200, 24, 64, 1, 1, 256, bos_token_id=198, eos_token_id=199),
    embed_dim=32,
)
BUFFERS = ("input_resolution", "context_length", "vocab_size")


def golden_state(folder, kind: str) -> dict:
    state = torch.load(folder / f"golden/openai/rn_state_{kind}.pt", weights_only=True)
    return {name: tensor for name, tensor in state.items() if name not in BUFFERS}


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_reference_gives_the_golden_embeddings_and_logits(shared_data, kind):
    from benchmarks.openai_torch import OpenAIResNetCLIP

    golden = np.load(shared_data / "golden/openai/rn.npz")
    pixels = torch.from_numpy(golden["in_pixel_values"])
    ids = torch.from_numpy(golden["in_input_ids"]).long()
    peer = OpenAIResNetCLIP(CONFIG).eval()
    peer.load_state_dict(golden_state(shared_data, kind), strict=True)
    with torch.inference_mode():
        found = (peer.encode_image(pixels), peer.encode_text(ids), peer.logits(pixels, ids))
    for tensor, name in zip(found, ("image_features", "text_features", "logits_per_image")):
        expected = golden[f"out_{name}_{kind}w"]
        assert np.abs(tensor.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_published_types_are_those_of_the_golden_float16_file(shared_data):
    from benchmarks.openai_torch import as_published

    cast = as_published(golden_state(shared_data, "fp32"))
    assert {name: x.dtype for name, x in cast.items()} == {
        name: x.dtype for name, x in golden_state(shared_data, "fp16").items()
    }
