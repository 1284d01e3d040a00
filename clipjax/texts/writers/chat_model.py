"""A chat model of Hugging Face on this machine: load it, word questions its way, write replies.

Nothing here knows the name of a model: the checkpoint's own config, chat template and processor decide.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from clipjax.errors import ClipjaxError, ConfigError


class ModelError(ClipjaxError):
    """A language model that cannot be loaded, does not fit, or cannot be asked what it is asked."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """A question with the images that it is about. The seed decides what is drawn at a temperature."""

    text: str
    images: Sequence[Image.Image] = ()
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the model wrote, and the tokens that it read and wrote."""

    text: str
    tokens: int


class ChatModel:
    """A model, and the processor (or tokenizer) that turns a conversation into its inputs."""

    def __init__(self, model: Any, processor: Any, *, takes_images: bool):
        self._model, self._processor, self._takes_images = model, processor, takes_images
        self._tokenizer = getattr(processor, "tokenizer", processor)

    def replies(self, asks: Sequence[Ask], *, max_tokens: int, temperature: float = 0.0) -> list[Reply]:
        """Reply to questions that have equally many images, all at once.

        At a temperature of 0 each token is the likeliest; otherwise it is drawn from all of them, for each
        question from a generator of its own, so that a reply does not depend on its neighbours.

        Raises:
          ValueError, TypeError, IndexError, KeyError, jinja2.TemplateError: the template or the processor
            refuses a question.
          ModelError: the model fails, or has not enough memory.
        """
        import torch

        try:
            return self._replies(asks, max_tokens, temperature)
        except (RuntimeError, MemoryError) as error:
            name, count = self._model.name_or_path, len(asks)
            # torch has a type of its own for a full GPU, but not for a full main memory
            full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
            if not full:
                raise ModelError(f"{name}: the model failed ({short(error)})") from error
        remedy = "a smaller batch_size" if count > 1 else "a smaller image_side, dtype='bfloat16' or a smaller model"
        raise ModelError(f"{name}: out of memory at batch_size={count}; try {remedy}")

    def _replies(self, asks: Sequence[Ask], max_tokens: int, temperature: float) -> list[Reply]:
        inputs = self._inputs(asks)
        ends = self._ends()
        sequences = self._model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_tokens,
            logits_processor=[Draws(temperature, [ask.seed for ask in asks])] if temperature > 0 else [],
            eos_token_id=sorted(ends) or None,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        read = inputs["attention_mask"].sum(dim=1).tolist()
        start = inputs["input_ids"].shape[1]
        return [self._reply(row[start:], ends, tokens) for row, tokens in zip(sequences.tolist(), read)]

    def _inputs(self, asks: Sequence[Ask]) -> dict[str, Any]:
        conversations = [[{"role": "user", "content": self._content(ask)}] for ask in asks]
        options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
        options |= {"return_tensors": "pt"}
        if "enable_thinking" in str(self._processor.chat_template):
            options["enable_thinking"] = False  # thoughts would use up the tokens of a caption
        # a processor takes what is meant for its tokenizer apart from what is meant for the template
        padding = {"padding": True}
        options |= padding if self._processor is self._tokenizer else {"processor_kwargs": padding}
        found = self._processor.apply_chat_template(conversations, **options)
        return {name: self._placed(value) for name, value in found.items()}

    def _content(self, ask: Ask) -> str | list[dict[str, Any]]:
        """Word a question: templates of vision-language models want parts, those of text models a string."""
        if not self._takes_images:
            return ask.text
        return [*({"type": "image", "image": image} for image in ask.images), {"type": "text", "text": ask.text}]

    def _placed(self, value: Any) -> Any:
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self._model.device, self._model.dtype if value.is_floating_point() else value.dtype)

    def _ends(self) -> set[int]:
        """Return the tokens that end a reply: fine-tuned models name theirs in one of two places."""
        named = self._model.generation_config.eos_token_id
        named = named if isinstance(named, list) else [named]
        return {token for token in (*named, self._tokenizer.eos_token_id) if token is not None}

    def _reply(self, tokens: list[int], ends: set[int], read: int) -> Reply:
        written = next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))
        text = self._tokenizer.decode(tokens[:written], skip_special_tokens=True)
        return Reply(text.strip(), read + written)


class Draws:
    """Makes sampling out of greedy decoding: the largest logit / temperature + Gumbel noise is a random draw.

    Each row has its own generator, which `generate` cannot do by itself.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]):
        self._temperature, self._seeds, self._generators = temperature, seeds, []

    def __call__(self, ids: Any, scores: Any) -> Any:
        import torch

        if not self._generators:
            self._generators = [torch.Generator(scores.device).manual_seed(seed) for seed in self._seeds]
        scores = scores.float() / self._temperature
        # minus the logarithm of an exponential variable is a Gumbel variable
        noise = [torch.empty_like(row).exponential_(generator=own) for row, own in zip(scores, self._generators)]
        return scores - torch.stack(noise).log()


def read_config(path: str) -> Any:
    """Read a model's config; never runs code that comes with it.

    Raises:
      ConfigError: a package is missing.
      ModelError: no model, or one that writes no text.
    """
    _needs_torch()
    import transformers

    config = _loaded(path, lambda: transformers.AutoConfig.from_pretrained(path, trust_remote_code=False))
    if not takes_images(config) and type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = config.model_type
        raise ModelError(f"{path}: is a model of the type {kind!r}, which writes no text; take a chat model")
    return config


def takes_images(config: Any) -> bool:
    """Say whether a config is that of a vision-language model."""
    import transformers

    return type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def load_chat_model(path: str, config: Any, *, device: str = "auto", dtype: str = "auto") -> ChatModel:
    """Load a model and what prepares its inputs; never runs code that comes with it.

    Raises:
      ConfigError: a package is missing.
      ModelError: files are missing or broken, there is no chat template, or the device has no room.
    """
    import torch
    import transformers

    images = takes_images(config)
    prepares = transformers.AutoProcessor if images else transformers.AutoTokenizer
    processor = _loaded(path, lambda: prepares.from_pretrained(path, trust_remote_code=False))
    tokenizer = getattr(processor, "tokenizer", processor)
    if images and getattr(processor, "image_processor", None) is None:
        raise ModelError(f"{path}: has no image processor; fetch the model's preprocessor_config.json too")
    if processor.chat_template is None:
        processor.chat_template = tokenizer.chat_template  # where older checkpoints keep it
    if processor.chat_template is None:
        raise ModelError(
            f"{path}: has no chat template; take the instruction-tuned version of the model, or add chat_template.jinja"
        )
    tokenizer.padding_side = "left"  # replies of a batch then begin at the same place
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    writes = transformers.AutoModelForImageTextToText if images else transformers.AutoModelForCausalLM
    model = _loaded(path, lambda: writes.from_pretrained(path, dtype=dtype, trust_remote_code=False))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"{path}: cannot be put on the device {device!r} ({short(error)}); "
            "choose another one, dtype='bfloat16' or a smaller model"
        ) from None
    return ChatModel(model.eval(), processor, takes_images=images)


def short(error: BaseException) -> str:
    """Say in one short line what went wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _needs_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise ConfigError("a model on this machine needs the package torch; pip install 'clipjax[lmm-local]'") from None


def _loaded(path: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ImportError as error:
        raise ConfigError(
            f"{path}: needs packages that are not installed ({short(error)}); pip install 'clipjax[lmm-local]'"
        ) from None
    except Exception as error:  # transformers, tokenizers and safetensors raise many kinds when files are damaged
        raise ModelError(
            f"{path}: cannot be loaded as a language model ({short(error)}); give a directory with "
            "its config.json, weights and tokenizer, or its name on the hub"
        ) from error
