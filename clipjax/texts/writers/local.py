"""A vision-language or text model of Hugging Face that runs on this machine, through `transformers` and torch."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from clipjax.errors import ClipjaxError, ConfigError, DataError
from clipjax.texts.groups import presented
from clipjax.texts.question import Answer, Question
from clipjax.texts.writers.chat_model import (
    Ask,
    ChatModel,
    ModelError,
    load_chat_model,
    read_config,
    short,
    takes_images,
)

_DTYPES = ("auto", "float32", "bfloat16")
_REFUSALS = (ValueError, TypeError, IndexError, KeyError, jinja2.TemplateError)
_Shown = tuple[Question, list[Image.Image]]


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """Which model to ask and how.

    `path` is a directory, or a name on Hugging Face's hub; code that comes with a model is never run.
    Questions with equally many images are asked `batch_size` at a time. An answer is the same in any batch, up to
    rounding: at a temperature of 0 each token is the likeliest, above it the draws of a question depend
    on the question alone. `device` "auto" is CUDA where there is one; `dtype` "auto" is the checkpoint's.
    The model is loaded when the first question is asked, and stays in memory as long as this object.
    """

    path: str
    batch_size: int = 8
    max_tokens: int = 77
    temperature: float = 0.0
    device: str = "auto"
    dtype: str = "auto"
    image_side: int | None = None

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("max_tokens", 1), ("temperature", 0), ("image_side", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigError(f"{name}={value}; it must be at least {least}")
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype={self.dtype!r} is none of {', '.join(_DTYPES)}")

    @property
    def model(self) -> str:
        """The model's name; for a directory its last part and a digest of its config and of the ends of its weights."""
        return self._name

    @functools.cached_property
    def _name(self) -> str:
        folder = Path(self.path)
        if not folder.is_dir():
            return self.path
        digest = hashlib.sha256()
        for file in sorted([*folder.glob("config.json"), *folder.glob("*.safetensors"), *folder.glob("*.bin")]):
            with file.open("rb") as content:
                content.seek(max(0, file.stat().st_size - 4096) if file.suffix != ".json" else 0)
                digest.update(content.read())
        return f"{folder.resolve().name}-{digest.hexdigest()[:8]}"

    @property
    def decoding(self) -> Mapping[str, Any]:
        """What decides how an answer is drawn."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens, "image_side": self.image_side}
        return {name: value for name, value in given.items() if value is not None}

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Yield the model's answers, batch by batch; closing the iterator ends the work after the batch under way.

        Raises:
          ConfigError: a package is missing.
          ModelError: there is no such model, it takes no images and is given one, or memory does not suffice.
        """
        source = iter(questions)
        while batch := list(itertools.islice(source, self.batch_size)):
            if any(question.pictures is not None for question in batch) and not takes_images(self._config):
                raise ModelError(
                    f"{self.path}: the model takes no images, but the questions have some; take a vision-language model"
                )
            alike: dict[int, list[_Shown]] = {}
            for question in batch:
                try:
                    images = self._images(question)
                except ClipjaxError as error:
                    yield Answer(question, error=str(error))
                    continue
                alike.setdefault(len(images), []).append((question, images))
            for shown in alike.values():
                yield from self._answers(shown)

    def _answers(self, shown: Sequence[_Shown]) -> Iterator[Answer]:
        asks = [Ask(question.text, images, _seed(question)) for question, images in shown]
        try:
            replies = self._chat.replies(asks, max_tokens=self.max_tokens, temperature=self.temperature)
        except _REFUSALS as error:
            if len(shown) == 1:
                yield Answer(shown[0][0], error=f"the model cannot be asked this ({short(error)})")
                return
            # one of them is to blame, and only that one shall fail
            for one in shown:
                yield from self._answers([one])
            return
        for (question, _), reply in zip(shown, replies):
            yield Answer(question, reply.text, tokens=reply.tokens)

    def _images(self, question: Question) -> list[Image.Image]:
        try:
            found = [] if question.pictures is None else presented(question.kind, question.pictures())
            images = [image.convert("RGB") for image in found]
        except OSError as error:  # Pillow reads a file when its pixels are needed
            raise DataError(f"an image cannot be read ({short(error)}); replace it") from None
        if self.image_side is not None:
            for image in images:
                image.thumbnail((self.image_side, self.image_side), Image.Resampling.LANCZOS)
        return images

    @functools.cached_property
    def _config(self) -> Any:
        return read_config(self.path)

    @functools.cached_property
    def _chat(self) -> ChatModel:
        return load_chat_model(self.path, self._config, device=self.device, dtype=self.dtype)


def _seed(question: Question) -> int:
    asked = [question.kind, question.subjects, question.text, question.sample, question.seed]
    return int.from_bytes(hashlib.sha256(json.dumps(asked).encode()).digest()[:7], "big")
