"""LatteCLIP's training step in PyTorch, on transformers' modules: what clipjax's step is compared with.

Two ways of the same numbers. "published" encodes four texts of each image at the full context length, as the
authors' code does: the class text of either label, the caption and the group caption. "deduplicated" encodes each class
text once and takes rows of the embeddings, and every text at the length it is given. Each kind of text goes through the
tower by itself, which on a CPU was 2 to 9 % faster than all texts of one length together; `together` joins them, so
that a GPU has fewer and larger products. Unlike the authors' code neither recomputes activations, which would save
memory and cost time.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clipjax.training.optimizers import Optimizer

Way = Literal["published", "deduplicated"]

LEAST_WEIGHT = 1e-6
LARGEST_LOGIT_SCALE = math.log(100)


class LatteCLIPTorch:
    """A transformers CLIPModel with the state of its training: prototypes, those at the epoch's start, AdamW's moments.

    `alpha` is how far targets and prototypes move towards the texts. Encoders compute in `dtype`, all else in float32.
    """

    def __init__(
        self,
        model: Any,
        prototypes: Tensor,
        optimizer: Optimizer,
        *,
        alpha: float = 0.01,
        together: bool = False,
        dtype: str = "float32",
        compiled: bool = False,
    ):
        compile: Callable = torch.compile if compiled else lambda function: function
        self.model = model.train()
        self.prototypes = prototypes
        self.reference = prototypes.clone()
        self.optimizer = _adamw(model, optimizer)
        self.alpha = alpha
        self.together = together
        self._autocast = {"device_type": model.device.type, "dtype": torch.bfloat16, "enabled": dtype == "bfloat16"}
        self._image = compile(lambda pixels: model.get_image_features(pixel_values=pixels).pooler_output)
        self._text = compile(lambda ids: model.get_text_features(input_ids=ids).pooler_output)

    def step(self, batch: dict[str, Tensor], way: Way) -> Tensor:
        """Take one step and return its loss, which nothing has waited for.

        `batch` holds `pixels`, zero-shot `labels`, token rows `captions` and `groups` of each image, and `prompts` of
        each class.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss, prototypes = self.loss(batch, way)
        loss.backward()
        self.prototypes = prototypes
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=LARGEST_LOGIT_SCALE)
        return loss.detach()

    def loss(self, batch: dict[str, Tensor], way: Way) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch and the prototypes after it."""
        images = self._embedded(self._image, batch["pixels"])
        with torch.no_grad():
            finetuned = (images @ self.prototypes.T).argmax(1)
        labels = {"finetuned": finetuned, "zero_shot": batch["labels"]}
        of_label, captions, groups = self._texts(batch, labels, way)
        image_weights, group_weights = self._weights(captions), self._weights(groups)
        written = image_weights * captions + group_weights * groups
        scale = self.model.logit_scale.float().exp()
        loss, targets = images.new_zeros(()), []
        for branch, label in labels.items():
            class_texts, class_weights = of_label[branch]
            mixed = (class_weights * class_texts + written) / (class_weights + image_weights + group_weights)
            targets.append(torch.lerp(self.prototypes[label], mixed, self.alpha))
            loss = loss + _clip_loss(images, targets[-1], scale)
        return loss, self._moved(torch.cat([*labels.values()]), torch.cat(targets).detach())

    def _texts(
        self, batch: dict[str, Tensor], labels: dict[str, Tensor], way: Way
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Return class texts and their weights for the labels of each branch, captions and group captions."""
        prompts, written = batch["prompts"], [batch["captions"], batch["groups"]]
        if way == "published":
            *class_texts, captions, groups = self._encoded([*(prompts[label] for label in labels.values()), *written])
            return {branch: (x, self._weights(x)) for branch, x in zip(labels, class_texts)}, captions, groups
        each, captions, groups = self._encoded([prompts, *written])
        weights = self._weights(each)
        return {branch: (each[label], weights[label]) for branch, label in labels.items()}, captions, groups

    def _encoded(self, tokens: list[Tensor]) -> list[Tensor]:
        """Embed several lists of texts, those of one length in one pass if `together`."""
        if not self.together:
            return [self._embedded(self._text, rows) for rows in tokens]
        embeddings: dict[int, Tensor] = {}
        for length in sorted({rows.shape[1] for rows in tokens}):
            alike = [place for place, rows in enumerate(tokens) if rows.shape[1] == length]
            joined = self._embedded(self._text, torch.cat([tokens[place] for place in alike]))
            embeddings |= zip(alike, joined.split([len(tokens[place]) for place in alike]))
        return [embeddings[place] for place in range(len(tokens))]

    def _embedded(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        with torch.autocast(**self._autocast):
            embeddings = encode(rows)
        return functional.normalize(embeddings.float(), dim=-1)

    @torch.no_grad()
    def _weights(self, texts: Tensor) -> Tensor:
        """Weigh texts by how much nearer each is to its best prototype of the epoch's start than to the second best."""
        best = (texts @ self.reference.T).topk(2, dim=1).values
        return best[:, :1] - best[:, 1:] + LEAST_WEIGHT

    @torch.no_grad()
    def _moved(self, labels: Tensor, targets: Tensor) -> Tensor:
        sums = torch.zeros_like(self.prototypes).index_add_(0, labels, targets)
        occurs = torch.zeros(len(sums), 1, dtype=torch.bool, device=sums.device).index_fill_(0, labels, True)
        return torch.where(occurs, functional.normalize(sums, dim=1), self.prototypes)


def _clip_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def _adamw(model: Any, spec: Optimizer) -> torch.optim.AdamW:
    """Build AdamW with clipjax's numbers; matrices decay, biases, norms and the logit scale do not."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.lr, betas=(spec.b1, spec.b2), eps=spec.eps, fused=True)


def torch_batch(
    images: np.ndarray,
    labels: np.ndarray,
    captions: np.ndarray,
    groups: np.ndarray,
    prompts: np.ndarray,
    device: str | torch.device = "cpu",
) -> dict[str, Tensor]:
    """Make a batch of NumPy arrays: images [B, H, W, 3], zero-shot labels, and token rows."""
    rows = {"labels": labels, "captions": captions, "groups": groups, "prompts": prompts}
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
    return {"pixels": pixels, **{name: torch.tensor(array).long().to(device) for name, array in rows.items()}}
