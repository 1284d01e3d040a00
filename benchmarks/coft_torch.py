"""CoFT's two training steps in PyTorch, on transformers' modules: what clipjax's steps are compared with.

Nothing is done twice: each class is read once a step for either context, texts are cut to the length they need, token
embeddings of class names are looked up once, and gradients are computed for what is trained alone. Encoders compute in
`dtype`, all else in float32, as clipjax's do.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipjax.training.optimizers import Optimizer


class PromptStepTorch:
    """Phase I: a frozen CLIPModel, visual prompts of each layer, and a positive and a negative context.

    `tokens` are class names with room for the contexts; `scale` is the exponential of the model's logit scale.
    """

    def __init__(
        self,
        model: Any,
        tokens: Tensor,
        contexts: Tensor,
        visual_prompts: Tensor,
        optimizer: Optimizer,
        *,
        dtype: str = "float32",
    ):
        self.model = model.eval().requires_grad_(False)
        self.contexts = nn.Parameter(contexts.clone())
        self.visual_prompts = nn.Parameter(visual_prompts.clone())
        self.optimizer = _sgd([self.contexts, self.visual_prompts], optimizer)
        with torch.no_grad():
            self._names = model.text_model.embeddings.token_embedding(tokens)
            self.scale = model.logit_scale.exp()
        self._ends = tokens.argmax(1)
        self._autocast = _autocast(tokens, dtype)

    def step(self, pixels: Tensor, labels: Tensor, complements: Tensor) -> Tensor:
        """Take one step and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(pixels, labels, complements)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def loss(self, pixels: Tensor, labels: Tensor, complements: Tensor) -> Tensor:
        """Add both losses (equations 4 and 6), with a weight of one."""
        with torch.autocast(**self._autocast):
            embedded, classes = self._images(pixels), self._texts()
        images = functional.normalize(embedded.float(), dim=-1)
        positive, negative = functional.normalize(classes.float(), dim=-1).chunk(2)
        positive, negative = self.scale * images @ positive.T, self.scale * images @ negative.T
        gap = positive - negative
        believed = functional.logsigmoid(gap.gather(1, labels[:, None]))
        doubted = functional.logsigmoid(-gap.gather(1, complements[:, None]))
        return functional.cross_entropy(positive, labels) - (believed + doubted).mean()

    def _images(self, pixels: Tensor) -> Tensor:
        vision = self.model.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(pixels))
        tokens = hidden.shape[1]
        for layer, own in zip(vision.encoder.layers, self.visual_prompts):
            hidden = torch.cat([hidden[:, :tokens], own.expand(len(hidden), -1, -1)], dim=1)
            hidden = layer(hidden, None)
        return self.model.visual_projection(vision.post_layernorm(hidden[:, 0]))

    def _texts(self) -> Tensor:
        text, count, names = self.model.text_model, self.contexts.shape[1], self._names
        filled = torch.cat(
            [
                torch.cat([names[:, :1], own.expand(len(names), -1, -1), names[:, 1 + count :]], dim=1)
                for own in self.contexts
            ]
        )
        places = torch.arange(filled.shape[1], device=filled.device)
        hidden = filled + text.embeddings.position_embedding(places)
        for layer in text.encoder.layers:
            hidden = layer(hidden, None, is_causal=True)
        ends = hidden[torch.arange(len(hidden), device=hidden.device), self._ends.repeat(2)]
        return self.model.text_projection(text.final_layer_norm(ends))


class TuneStepTorch:
    """Phase II: a vision model with a linear head, trained whole; with `contrast` also by its moving average's keys.

    Give `queue`, unit keys, for the contrast.
    """

    def __init__(
        self,
        model: Any,
        head: nn.Linear,
        optimizer: Optimizer,
        *,
        queue: Tensor | None = None,
        weight: float = 0.1,
        momentum: float = 0.999,
        temperature: float = 0.07,
        dtype: str = "float32",
    ):
        self.vision, self.head = model.vision_model.train().requires_grad_(True), head
        self.optimizer = _sgd([*self.vision.parameters(), *head.parameters()], optimizer)
        self._autocast = _autocast(head.weight, dtype)
        self.queue, self.pointer = queue, 0
        self.weight, self.momentum, self.temperature = weight, momentum, temperature
        self.average = None if queue is None else copy.deepcopy(self.vision).requires_grad_(False)
        # whose keys those of the queue are: nobody's at first
        self.owners = None if queue is None else torch.full((len(queue),), -1, device=queue.device)

    def step(
        self,
        pixels: Tensor,
        labels: Tensor,
        accepted: Tensor,
        keys: Tensor | None = None,
        owners: Tensor | None = None,
    ) -> Tensor:
        """Take one step and return its loss. `keys` are other views of the images, `owners` their numbers."""
        self.optimizer.zero_grad(set_to_none=True)
        features = self._features(self.vision, pixels)
        each = functional.cross_entropy(self.head(features), labels, reduction="none")
        loss = (each * accepted).sum() / accepted.sum().clamp(min=1)
        if self.average is not None:
            assert keys is not None and owners is not None
            loss = loss + self.weight * self._contrast(features, keys, owners)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _contrast(self, features: Tensor, pixels: Tensor, owners: Tensor) -> Tensor:
        assert self.average is not None and self.queue is not None and self.owners is not None
        with torch.no_grad():
            averages, params = list(self.average.parameters()), list(self.vision.parameters())
            torch._foreach_lerp_(averages, params, 1 - self.momentum)
            keys = functional.normalize(self._features(self.average, pixels), dim=-1)
        queries = functional.normalize(features, dim=-1)
        others = (queries @ self.queue.T).masked_fill(self.owners == owners[:, None], -torch.inf)
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), others], dim=1) / self.temperature
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        # logits keep what they need of the queue as it was
        self.queue = self.queue.index_copy(0, places, keys)
        self.owners = self.owners.index_copy(0, places, owners)
        self.pointer = (self.pointer + len(keys)) % len(self.queue)
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    def _features(self, vision: Any, pixels: Tensor) -> Tensor:
        with torch.autocast(**self._autocast):
            pooled = vision(pixel_values=pixels).pooler_output
        return pooled.float()


def _autocast(near: Tensor, dtype: str) -> dict[str, Any]:
    return {"device_type": near.device.type, "dtype": torch.bfloat16, "enabled": dtype == "bfloat16"}


def _sgd(params: list[nn.Parameter], spec: Optimizer) -> torch.optim.SGD:
    return torch.optim.SGD(params, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, foreach=True)
