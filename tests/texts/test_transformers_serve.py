"""A real server, `transformers serve` on loopback with a tiny vision-language model: asked, killed, started again."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image

from clipjax.texts.generate import generate
from clipjax.texts.question import Question
from clipjax.texts.store import TextStore
from clipjax.texts.writers.chat_server import ChatServer, ServerError
from clipjax.texts.writers.local import LocalModel

for package in ("torch", "openai", "fastapi", "uvicorn", "pydantic", "accelerate"):
    pytest.importorskip(package, reason=f"`transformers serve` needs {package} (extra serving)")
tiny = pytest.importorskip("tiny_models")
pytestmark = pytest.mark.torch

START = 180
"""Seconds that a server may take to start on a busy machine."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny.tiny_llava(tmp_path_factory.mktemp("models") / "tiny_llava"))


@contextlib.contextmanager
def serving(model, log):
    """Run a server process and yield it with its address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield process, f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def wait_for(url, process, log):
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


def captions(count):
    def questions(n):
        return lambda: [Image.new("RGB", (40 + n, 50), (5 * n, 0, 255 - 5 * n))]

    return [Question("caption", (f"{n}.jpg",), f"what is {n}?", "p", "f", pictures=questions(n)) for n in range(count)]


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    with serving(model, tmp_path_factory.mktemp("log") / "server.log") as (_, address):
        yield address


@pytest.fixture
def store(tmp_path):
    return TextStore(tmp_path / "texts.jsonl", create=True)


def asking(url, model, **fields):
    few = {"max_tokens": 16, "concurrency": 4, "retries": 1, "wait": 0.05, "timeout": 60.0}
    return ChatServer(url, model, **(few | fields))


def test_captions_are_written_and_a_second_run_asks_nothing(url, model, store):
    first = generate(store, asking(url, model), captions(8))
    assert (first.answered, first.failed) == (8, 0)
    assert first.tokens > 8 * 16
    assert all(record.text and record.model == model for record in store.records())
    nobody = asking("http://127.0.0.1:9/v1", model)
    assert generate(store, nobody, captions(8)).known == 8


def test_a_question_without_an_image_is_answered(url, model, store):
    question = Question("class_description", ("cat",), "what is a cat?", "p", "f")
    outcome = generate(store, asking(url, model), [question])
    assert (outcome.answered, outcome.failed) == (1, 0)


def test_a_server_and_a_local_model_write_the_same(url, model):
    questions = [*captions(5), Question("class_description", ("cat",), "what is a cat?")]
    served = {answer.question: (answer.text, answer.tokens) for answer in asking(url, model).answers(questions)}
    local = LocalModel(model, max_tokens=16, batch_size=3)
    assert {answer.question: (answer.text, answer.tokens) for answer in local.answers(questions)} == served


def test_a_server_of_another_model_refuses_in_one_line(url, store):
    with pytest.raises(ServerError, match=r"answered 400: .*pinned to .*model 'another'"):
        generate(store, asking(url, "another"), captions(20))
    assert store.texts == 0 and len(store) < 20


def test_a_server_killed_midway_ends_the_run_and_another_finishes_it(model, store, tmp_path):
    log = tmp_path / "server.log"
    with serving(model, log) as (process, url):

        def killing(answers, **_):
            for number, answer in enumerate(answers):
                if number == 5:
                    process.kill()
                yield answer

        with pytest.raises(ServerError, match=f"no server answers at {url}; start one"):
            generate(store, asking(url, model), captions(60), progress=killing)
    kept = len(list(store.records()))
    assert 5 <= kept < 60
    with serving(model, log) as (_, url):
        rest = generate(store, asking(url, model), captions(60))
    assert (rest.known, rest.answered, rest.failed) == (kept, 60 - kept, 0)
    assert store.failed == 0 and store.verify() == []
