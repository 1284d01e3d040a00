import dataclasses

from clipjax.texts.collected import collect
from clipjax.texts.generate import generate
from clipjax.texts.question import Question
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore
from clipjax.texts.writers.files import FileWriter

TEXTS = collect(
    [
        TextRecord("caption", ("1.jpg",), "a dog", "m"),
        TextRecord("class_description", ("dog",), "it barks", "m"),
        TextRecord("class_description", ("dog",), "it runs", "m", sample=1),
        TextRecord("difference", ("1.jpg", "2.jpg"), "the first is a dog", "m"),
    ]
)


def test_questions_are_answered_from_what_was_written_earlier(tmp_path):
    description = Question("class_description", ("dog",), "what is a dog?")
    asked = [
        Question("caption", ("train/1.jpg",), "describe"),
        Question("difference", ("1.jpg", "2.jpg"), "compare"),
        *(dataclasses.replace(description, sample=n) for n in range(3)),
        Question("caption", ("2.jpg",), "describe"),
    ]
    store = TextStore(tmp_path / "texts.jsonl", create=True)
    outcome = generate(store, FileWriter(TEXTS, "old.jsonl"), asked)
    assert (outcome.answered, outcome.failed) == (4, 2)
    assert [record.text for record in store.records()] == ["a dog", "the first is a dog", "it barks", "it runs"]
    assert {record.error for record in store.records(state="failed")} == {
        "old.jsonl holds no such class_description",
        "old.jsonl holds no such caption",
    }
