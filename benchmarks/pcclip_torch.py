"""PC-CLIP's training step in PyTorch, on transformers' text tower: what clipjax's step is compared with.

As in the released code only the blocks of the text transformer are trained, by Adam, and the image side is gathered
from embeddings that were made once. Token rows come at the length that clipjax cuts them to.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clipjax.training.optimizers import Optimizer


class PCCLIPTorch:
    """A transformers CLIPModel whose text blocks are trained on differences of the `images`, unit embeddings."""

    def __init__(
        self,
        model: Any,
        images: np.ndarray,
        optimizer: Optimizer,
        *,
        temperature: float = 1.0,
        dtype: str = "float32",
        compiled: bool = False,
    ):
        self.model = model.train()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        blocks = model.text_model.encoder.layers
        for parameter in blocks.parameters():
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.Adam(
            blocks.parameters(),
            lr=optimizer.lr,
            betas=(optimizer.b1, optimizer.b2),
            eps=optimizer.eps,
            fused=True,
        )
        self.images = torch.tensor(images, device=model.device)
        self.temperature = temperature
        self._autocast = {"device_type": model.device.type, "dtype": torch.bfloat16, "enabled": dtype == "bfloat16"}
        encode = lambda ids: model.get_text_features(input_ids=ids).pooler_output
        self._text = torch.compile(encode) if compiled else encode

    def step(self, batch: dict[str, Tensor]) -> Tensor:
        """Take one step and return its loss, which nothing has waited for."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Compute the loss of a batch: `first` and `second`, positions of images, and `tokens`."""
        side = functional.normalize(self.images[batch["first"]] - self.images[batch["second"]], dim=-1)
        with torch.autocast(**self._autocast):
            embeddings = self._text(batch["tokens"])
        logits = functional.normalize(embeddings.float(), dim=-1) @ side.T / self.temperature
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def torch_batch(batch: dict[str, np.ndarray], device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Make a batch of NumPy arrays."""
    return {name: torch.tensor(array.astype(np.int64), device=device) for name, array in batch.items()}
