"""A server that does all that servers do: every subject ends up answered, or failed with a reason."""

import base64
import dataclasses
import io
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_stub import Stub, completion, serving
from PIL import Image

from clipjax.errors import ClipjaxError, ConfigError, DataError, OutputError
from clipjax.texts.generate import Budget, generate
from clipjax.texts.question import Question
from clipjax.texts.store import TextStore
from clipjax.texts.writers.chat_server import ChatServer, ServerError

pytest.importorskip("openai")


def questions(count, pictures=None):
    return [Question("caption", (f"{n}.jpg",), f"what is {n}?", "p", "f", pictures=pictures) for n in range(count)]


def server(stub, **fields):
    return ChatServer(stub.url, "stub", **({"timeout": 5.0, "wait": 0.01, "concurrency": 4} | fields))


@pytest.fixture
def store(tmp_path):
    return TextStore(tmp_path / "texts.jsonl", create=True)


def test_every_question_is_answered_once(store):
    with serving(Stub()) as stub:
        outcome = generate(store, server(stub), questions(20))
        again = generate(store, server(stub), questions(25))
    assert (outcome.answered, outcome.failed, outcome.tokens) == (20, 0, 140)
    assert (again.known, again.answered) == (20, 5)
    assert set(stub.attempts.values()) == {1}
    assert {record.subjects[0]: record.text for record in store.records()} == {
        f"{n}.jpg": f"answer to what is {n}?" for n in range(25)
    }


def test_the_request_holds_the_picture_the_words_and_the_decoding(store):
    red = Image.new("RGBA", (40, 20), "red")
    with serving(Stub()) as stub:
        generate(store, server(stub, image_side=10, temperature=0.5, seed=3), questions(1, lambda: [red]))
    (request,) = stub.requests
    assert (request["model"], request["temperature"], request["max_tokens"], request["seed"]) == ("stub", 0.5, 77, 3)
    image, words = request["messages"][0]["content"]
    assert words == {"type": "text", "text": "what is 0?"}
    kind, _, encoded = image["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert (sent.mode, sent.size, sent.getpixel((0, 0))) == ("RGB", (10, 5), (255, 0, 0))


@pytest.mark.parametrize("fault", [429, 500, 503, 408, "hang up", "half a JSON", "no choices"])
def test_what_goes_wrong_once_is_asked_again(store, fault):
    behave = lambda question, attempt: fault if attempt == 1 and question != "what is 0?" else "fine"
    with serving(Stub(behave)) as stub:
        outcome = generate(store, server(stub, concurrency=1), questions(3))
    assert (outcome.answered, outcome.failed) == (3, 0)
    assert list(stub.attempts.values()) == [1, 2, 2]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (500, "the server answered 500"),
        (429, "the server answered 429"),
        ("hang up", "the connection failed"),
        ("half a JSON", "makes no sense"),
        ("no choices", "makes no sense"),
        ("late", "no answer within 0.3 s"),
        ("", "the answer is empty"),
        ("x" * 10_000_000, "10,000,000 characters"),
        (404, "the server answered 404"),
    ],
)
def test_what_keeps_going_wrong_is_listed_with_its_reason_and_asked_again_later(store, fault, reason):
    bad = {"what is 1?", "what is 3?"}
    behave = lambda question, attempt: fault if question in bad else "fine"
    with serving(Stub(behave)) as stub:
        asked = server(stub, retries=1, timeout=0.3, concurrency=1)
        outcome = generate(store, asked, questions(5))
        assert (outcome.answered, outcome.failed) == (3, 2)
        assert [record.subjects[0] for record in store.records(state="failed")] == ["1.jpg", "3.jpg"]
        assert all(reason in (record.error or "") for record in store.records(state="failed"))
        bad.clear()
        stub.requests.clear()
        again = generate(store, asked, questions(5))
    assert (again.known, again.answered, len(stub.requests)) == (3, 2, 2)
    assert store.failed == 0


def test_all_faults_in_a_random_order(store):
    draw = random.Random(0)
    faults = [429, 500, "hang up", "half a JSON", "", "x" * 10_000_000, "fine", "fine"]
    plan = {f"what is {n}?": draw.choices(faults, k=3) for n in range(60)}
    with serving(
        Stub(lambda question, attempt: "fine" if question == "what is 0?" else plan[question][attempt - 1])
    ) as stub:
        outcome = generate(store, server(stub, retries=2, concurrency=3), questions(60))
        assert outcome.answered + outcome.failed == len(store) == 60
        assert all(record.error for record in store.records(state="failed"))
        stub.behave = lambda question, attempt: "fine"
        stub.requests.clear()
        again = generate(store, server(stub), questions(60))
    assert (again.answered, again.failed, len(stub.requests)) == (outcome.failed, 0, outcome.failed)
    assert 0 < outcome.failed < 60


def test_no_server_is_one_line_that_says_where_and_how(store):
    with serving(Stub()) as stub:
        pass
    with pytest.raises(ServerError, match=rf"no server answers at {stub.url}; start one.*vllm serve stub"):
        generate(store, server(stub, retries=0), questions(50))
    assert len(store) <= 1


def test_a_server_that_goes_away_ends_the_run_and_keeps_its_answers(store):
    with serving(Stub()) as stub:
        generate(store, server(stub), questions(3))
        stub.behave = lambda question, attempt: "hang up" if int(question[8:-1]) > 10 else "fine"
        with pytest.raises(ServerError, match=r"2\d questions in a row got no answer .*the connection failed"):
            generate(store, server(stub, retries=0), questions(200))
    # long before all have been asked in vain
    assert len(list(store.records())) >= 11 and store.failed < 100


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_server_that_refuses_all_requests_ends_the_run(store, status):
    raises = pytest.raises(ServerError, match=f"answered {status}.*model 'stub'")
    with serving(Stub(lambda question, attempt: status)) as stub, raises:
        generate(store, server(stub, concurrency=1), questions(50, lambda: [Image.new("RGB", (4, 4))]))
    # what a picture may be to blame for is tried with three
    tried = 3 if status in (400, 422) else 1
    assert (len(stub.requests), len(store)) == (tried, tried - 1)


@pytest.mark.parametrize("fault", [400, "hang up", "half a JSON", 500])
def test_a_first_question_that_fails_does_not_end_the_run(store, fault):
    with serving(Stub(lambda question, attempt: fault if question == "what is 0?" else "fine")) as stub:
        outcome = generate(store, server(stub, retries=1, concurrency=1), questions(10))
    assert (outcome.answered, outcome.failed) == (9, 1)


def test_a_server_that_is_never_well_ends_the_run(store):
    with serving(Stub(lambda question, attempt: 503)) as stub:
        with pytest.raises(
            ServerError, match=r"3 questions in a row got no answer \(the last: the server answered 503"
        ):
            generate(store, server(stub, retries=1, concurrency=1), questions(300))
        assert len(stub.requests) == 6


def test_a_server_that_only_makes_errors_ends_the_run(store):
    with serving(Stub(lambda question, attempt: 500)) as stub:
        with pytest.raises(ServerError, match=r"20 questions in a row got no answer .*answered 500"):
            generate(store, server(stub, retries=0, concurrency=1), questions(300))
        assert (len(stub.requests), store.failed) == (20, 19)


def test_what_failed_before_is_asked_last(store):
    behave = lambda question, attempt: 503 if question in ("what is 0?", "what is 1?", "what is 2?") else "fine"
    with serving(Stub(behave)) as stub:
        asked = server(stub, retries=0, concurrency=1)
        with pytest.raises(ServerError):
            generate(store, asked, questions(30))
        assert (len(store), store.texts) == (2, 0)
        with pytest.raises(ServerError):  # 2 is new, then come 3 to 29, then 0 and 1
            generate(store, asked, questions(3))
        assert generate(store, asked, questions(30)).answered == 27


def test_a_budget_counts_what_was_asked_again(store):
    with serving(Stub(lambda question, attempt: 500 if attempt == 1 else "fine")) as stub:
        outcome = generate(store, server(stub, retries=1, concurrency=1), questions(30), budget=Budget(requests=10))
        assert len(stub.requests) == outcome.requests and 10 <= outcome.requests <= 12 and outcome.answered < 10


def test_usage_that_is_no_number_costs_nothing(store):
    for usage in ({}, {"total_tokens": None}, {"total_tokens": "12"}):
        body = completion("fine") | {"usage": usage}
        with serving(Stub(lambda question, attempt, body=body: body)) as stub:
            asked = [dataclasses.replace(question, sample=len(store)) for question in questions(1)]
            assert generate(store, server(stub), asked).tokens == 0
    assert len(list(store.records())) == 3


def test_equal_questions_are_asked_once_and_other_wordings_anew(store):
    one = Question("rewrite", ("a.jpg",), "say again: a dog", "p", "f", given=("a dog",))
    other = dataclasses.replace(one, text="say again: a cat", given=("a cat",))
    with serving(Stub()) as stub:
        assert generate(store, server(stub), [one, one, other, one]).answered == 2
        assert len(stub.requests) == 2


def test_seeds_of_server_and_question_add_up(store):
    with serving(Stub()) as stub:
        asked = [dataclasses.replace(questions(1)[0], sample=n, seed=n) for n in range(3)]
        generate(store, server(stub, seed=5, concurrency=1), asked)
        assert [request["seed"] for request in stub.requests] == [5, 6, 7]
        assert generate(store, server(stub, seed=6), asked).known == 0


def test_two_runs_on_one_store_share_the_work(store):
    with serving(Stub(lambda question, attempt: time.sleep(0.005) or "fine")) as stub:
        stores = [store, TextStore(store.path)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: generate(one, server(stub, concurrency=2), questions(300)), stores))
        assert len(list(store.records())) == 300
        assert len(stub.requests) < 400  # twice would be 600


def test_an_image_that_cannot_be_read_fails_alone(store):
    def unreadable():
        raise DataError("b.jpg: cannot be decoded; replace it")

    asked = [*questions(2), Question("caption", ("b.jpg",), "what?", pictures=unreadable)]
    with serving(Stub()) as stub:
        outcome = generate(store, server(stub), asked)
    assert (outcome.answered, outcome.failed) == (2, 1)
    assert [record.error for record in store.records(state="failed")] == ["b.jpg: cannot be decoded; replace it"]


def test_at_most_so_many_requests_are_under_way(store):
    barrier = threading.Event()
    stub = Stub(lambda question, attempt: barrier.wait(0.05) or "fine")
    with serving(stub):
        generate(store, server(stub, concurrency=5), questions(40))
    assert 2 <= stub.most <= 5


def test_a_budget_stops_the_asking_and_a_later_run_goes_on(store):
    with serving(Stub()) as stub:
        first = generate(store, server(stub), questions(30), budget=Budget(requests=10))
        assert (first.answered, first.stopped) == (10, "the budget of 10 requests is spent")
        second = generate(store, server(stub, concurrency=1), questions(30), budget=Budget(tokens=35))
        assert second.answered in (5, 6) and "35 tokens" in (second.stopped or "")
        assert generate(store, server(stub), questions(30)).stopped is None
    assert len(store) == 30 and set(stub.attempts.values()) == {1}


def test_answers_are_cleaned_and_the_raw_one_is_kept(store):
    clean = lambda text: (None, "too_dull") if "1" in text else (text.upper(), None)
    with serving(Stub()) as stub:
        outcome = generate(store, server(stub), questions(2), clean={"caption": clean})
    (kept,), (dropped,) = store.records(), store.records(state="rejected")
    assert (outcome.answered, outcome.rejected, outcome.failed) == (1, 1, 0)
    assert (kept.text, kept.raw) == ("ANSWER TO WHAT IS 0?", "answer to what is 0?")
    assert (dropped.text, dropped.rejected, dropped.raw) == ("", "too_dull", "answer to what is 1?")


def test_an_answer_that_cannot_be_stored_ends_the_run(store, monkeypatch):
    def full(records):
        raise OutputError("the disk is full")

    monkeypatch.setattr(store, "append", full)
    with serving(Stub()) as stub, pytest.raises(OutputError):
        generate(store, server(stub), questions(5))


def test_closing_the_answers_ends_the_asking():
    with serving(Stub()) as stub:
        answers = server(stub, concurrency=2).answers(iter(questions(1000)))
        next(answers)
        answers.close()  # pyright: ignore[reportAttributeAccessIssue]
        assert len(stub.requests) < 20


@pytest.mark.slow
def test_ten_thousand_requests_in_bounded_memory(tmp_path):
    store = TextStore(tmp_path / "texts.jsonl", create=True)
    asked = questions(10_000)
    with serving(Stub()) as stub:
        stub.requests = _Forgetful()
        tracemalloc.start()
        outcome = generate(store, server(stub, concurrency=64), asked)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (outcome.answered, len(store)) == (10_000, 10_000)
    assert peak < 100e6


class _Forgetful(list):
    def append(self, item):
        pass


@pytest.mark.parametrize("fields", [{"concurrency": 0}, {"retries": -1}, {"max_tokens": 0}, {"url": "127.0.0.1:80"}])
def test_senseless_settings_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        ChatServer(**({"url": "http://127.0.0.1:80/v1", "model": "m"} | fields))


def test_the_key_is_written_nowhere(store, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    with serving(Stub(lambda question, attempt: 401 if question == "what is 1?" else "fine")) as stub:
        generate(store, server(stub, concurrency=1), questions(2))
    assert b"secret-key" not in store.path.read_bytes()
    assert issubclass(ServerError, ClipjaxError)


GENERATE = """
import sys
from clipjax.texts.generate import generate
from clipjax.texts.question import Question
from clipjax.texts.store import TextStore
from clipjax.texts.writers.chat_server import ChatServer

questions = [Question("caption", (f"{n}.jpg",), f"what is {n}?", "p", "f") for n in range(400)]
server = ChatServer(sys.argv[2], "stub", concurrency=8, wait=0.01)
print("ready", flush=True)
generate(TextStore(sys.argv[1], create=True), server, questions)
"""


@pytest.mark.slow
def test_a_generation_killed_at_twenty_moments_loses_nothing_and_asks_nothing_twice(tmp_path):
    path, draw, kills, midway = tmp_path / "texts.jsonl", random.Random(1), 0, 0
    with serving(Stub(lambda question, attempt: time.sleep(0.01) or "fine")) as stub:
        while True:
            process = subprocess.Popen([sys.executable, "-c", GENERATE, path, stub.url], stdout=subprocess.PIPE)
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            if kills == 20:
                assert process.wait(timeout=120) == 0
                break
            seen = len(stub.requests)
            goal = seen + draw.randint(1, 15)
            while len(stub.requests) < goal and process.poll() is None:
                time.sleep(0.001)
            process.kill()
            process.wait()
            kills += 1
            midway += seen < len(stub.requests) < 400
            if path.exists() and path.stat().st_size > 30:
                assert TextStore(path).verify() == []
    assert midway == 20
    store = TextStore(path)
    assert {record.subjects[0] for record in store.records()} == {f"{n}.jpg" for n in range(400)}
    # each kill loses at most the requests that were under way
    assert sum(count - 1 for count in stub.attempts.values()) <= 20 * 8
    assert path.read_bytes().count(b"\n") == 401
