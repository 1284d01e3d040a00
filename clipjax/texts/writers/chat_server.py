"""Any server that speaks OpenAI's chat protocol: vLLM, SGLang, llama.cpp, `transformers serve`."""

import base64
import dataclasses
import io
import os
import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from PIL import Image

from clipjax.errors import ClipjaxError, ConfigError
from clipjax.texts.groups import presented
from clipjax.texts.question import Answer, Question
from clipjax.texts.writers.concurrent import answers_from_threads

LONGEST_ANSWER = 20_000
"""Characters; whatever is longer is no answer to a question for a sentence."""

_NO_ANSWERS_IN_A_ROW = 20
_REFUSED_IN_A_ROW = 3
_REFUSED_AT_ONCE = (401, 403, 404)


class ServerError(ClipjaxError):
    """A server that is not there, refuses all requests or stopped answering."""


@dataclasses.dataclass(frozen=True)
class ChatServer:
    """How to ask a server.

    `url` ends in /v1 as a rule. `concurrency` requests are under way at once. Requests that fail
    with 408, 409, 429, 5xx, a broken connection or a time-out are repeated up to `retries` times after waits
    that double from `wait` seconds, or as long as the server says. The key, where one is needed,
    is taken from the environment variable `key_variable`; it is stored nowhere.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 77
    seed: int | None = None
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 4
    wait: float = 0.5
    image_side: int | None = None
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self):
        for name, least in (("concurrency", 1), ("retries", 0), ("max_tokens", 1), ("image_side", 1), ("wait", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}; it must be at least {least}")
        if not self.timeout > 0:
            raise ConfigError(f"timeout={self.timeout}; it must be more than 0 seconds")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url={self.url!r} is no address; write it as http://127.0.0.1:8000/v1")

    @property
    def decoding(self) -> Mapping[str, Any]:
        """What decides how an answer is drawn."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens, "image_side": self.image_side}
        given["seed"] = self.seed
        return {name: value for name, value in given.items() if value is not None}

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Yield the server's answers as they come.

        Raises:
          ServerError: nobody listens, all requests are refused, or the server stopped answering.
        """
        stop = threading.Event()
        with _client(self) as client:
            yield from answers_from_threads(_Asker(self, client, stop), questions, self.concurrency, stop)


def _client(server: ChatServer) -> Any:
    try:
        import openai
    except ImportError:
        raise ConfigError("asking a server needs the package openai; pip install 'clipjax[lmm]'") from None
    key = os.environ.get(server.key_variable) or "none"
    return openai.OpenAI(base_url=server.url, api_key=key, timeout=server.timeout, max_retries=0)


class _Asker:
    """Asks one question, again where that may help; called by several threads."""

    def __init__(self, server: ChatServer, client: Any, stop: threading.Event):
        self._server, self._client, self._stop = server, client, stop
        self._lock, self._answered, self._refusals = threading.Lock(), 0, 0
        self._unheard = self._unanswered = 0

    def __call__(self, question: Question) -> Answer:
        import openai

        try:
            message = self._message(question)
        except ClipjaxError as error:
            return Answer(question, error=str(error))  # an image that cannot be read
        reason, heard, wait, requests = "", False, None, 0
        for attempt in range(self._server.retries + 1):
            if attempt and self._stop.wait(self._pause(attempt, wait)):
                break
            wait, heard, requests = None, False, requests + 1
            try:
                return dataclasses.replace(self._answer(question, message), requests=requests)
            except openai.APIStatusError as error:
                reason = f"the server answered {error.status_code}: {_said(error)}"
                wait = error.response.headers.get("retry-after")
                # an error of its own may be due to the question; these are not
                heard = error.status_code not in (429, 502, 503, 504)
                if error.status_code < 500 and error.status_code not in (408, 409, 429):
                    self._refused(question, error.status_code, reason)
                    heard = True
                    break
            except openai.APITimeoutError:
                reason = f"no answer within {self._server.timeout:g} s"
            except openai.APIConnectionError as error:
                if not self._answered and "refused" in str(error.__cause__):
                    raise self._absent() from None
                reason = f"the connection failed ({_short(str(error.__cause__ or error))})"
            except (openai.OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
                reason, heard = f"the answer makes no sense ({_short(str(error))})", True
        self._count(heard, reason)
        return Answer(question, error=reason or "stopped", requests=requests)

    def _answer(self, question: Question, message: list[dict[str, Any]]) -> Answer:
        s = self._server
        more = {} if question.seed is None and s.seed is None else {"seed": (question.seed or 0) + (s.seed or 0)}
        found = self._client.chat.completions.create(
            model=s.model,
            messages=[{"role": "user", "content": message}],
            temperature=s.temperature,
            max_tokens=s.max_tokens,
            **more,
        )
        text, usage = found.choices[0].message.content, found.usage
        self._count(heard=True, answered=True)
        tokens = usage.total_tokens if usage is not None and isinstance(usage.total_tokens, int) else 0
        if not isinstance(text, str) or not text.strip():
            return Answer(question, error="the answer is empty", tokens=tokens)
        if len(text) > LONGEST_ANSWER:
            return Answer(question, error=f"the answer has {len(text):,} characters", tokens=tokens)
        return Answer(question, text, tokens=tokens)

    def _message(self, question: Question) -> list[dict[str, Any]]:
        images = [] if question.pictures is None else presented(question.kind, question.pictures())
        parts = [{"type": "image_url", "image_url": {"url": self._encoded(image)}} for image in images]
        return [*parts, {"type": "text", "text": question.text}]

    def _encoded(self, image: Image.Image) -> str:
        image = image.convert("RGB")
        if self._server.image_side is not None:
            side = self._server.image_side
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

    def _pause(self, attempt: int, wished: str | None) -> float:
        try:
            return min(60.0, float(wished))  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError):
            # not all at once
            return self._server.wait * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)

    def _refused(self, question: Question, status: int, reason: str) -> None:
        """A request that is wrong as such will be wrong for every subject: say so before all are marked failed."""
        with self._lock:
            self._refusals += 1
            all_are = not self._answered and (status in _REFUSED_AT_ONCE or self._refusals >= _REFUSED_IN_A_ROW)
        if all_are:
            hint = "; does the model take images?" if status in (400, 422) and question.pictures is not None else ""
            raise ServerError(f"{self._server.url}: {reason} (model {self._server.model!r}){hint}")

    def _count(self, heard: bool, reason: str = "", *, answered: bool = False) -> None:
        with self._lock:
            self._answered += answered
            self._unheard = 0 if heard else self._unheard + 1
            self._unanswered = 0 if answered else self._unanswered + 1
            away = self._unheard >= (_NO_ANSWERS_IN_A_ROW if self._answered else _REFUSED_IN_A_ROW)
            away |= self._unanswered >= _NO_ANSWERS_IN_A_ROW
            row = self._unanswered
        if away and not self._stop.is_set():
            if "refused" in reason:
                raise self._absent()
            raise ServerError(
                f"{self._server.url}: {row} questions in a row got no answer (the last: {reason}); "
                "look at the server, answers so far are kept"
            )

    def _absent(self) -> ServerError:
        return ServerError(
            f"no server answers at {self._server.url}; start one, such as `vllm serve {self._server.model}`, "
            "or correct the address"
        )


def _said(error: Any) -> str:
    # the client knows OpenAI's layout of errors; what other servers say is in the reply itself
    return _short(error.response.text if error.message == f"Error code: {error.status_code}" else error.message)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."
