import itertools

import numpy as np
import pytest

from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Sequential, Shuffled
from clipjax.errors import DataError

ROWS = np.arange(10)


def arrays():
    return {"embeddings": ROWS[:, None] * np.ones(3), "labels": ROWS % 4}


def taken(batches, count, first_step=0, **processes):
    return list(itertools.islice(batches.batches(first_step, **processes), count))


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_rows_of_all_arrays_belong_together():
    for batch in taken(ArrayBatches(arrays(), Shuffled(10, 0), 4), 5):
        assert np.array_equal(batch["embeddings"][:, 0], batch["indices"])
        assert np.array_equal(batch["labels"], batch["indices"] % 4)


def test_numbers_have_the_width_they_have_on_the_device():
    (batch,) = taken(ArrayBatches(arrays(), Shuffled(10, 0), 4), 1)
    assert {name: str(values.dtype) for name, values in batch.items()} == {
        "embeddings": "float32",
        "labels": "int32",
        "indices": "int32",
    }


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_out_the_batches_of_one(processes):
    views = {"views": np.arange(10)[:, None] * 10 + np.arange(5)}
    source = ArrayBatches(views, Shuffled(10, 0), 8, one_of=["views"])
    parts = [taken(source, 4, process=process, processes=processes) for process in range(processes)]
    for step, whole in enumerate(taken(source, 4)):
        joined = {name: np.concatenate([part[step][name] for part in parts]) for name in whole}
        assert same(joined, whole)


def test_later_start_gives_the_tail():
    views = {"views": np.arange(10)[:, None] * 10 + np.arange(5)}
    source = ArrayBatches(views, Shuffled(10, 0), 4, one_of=["views"])
    assert all(map(same, taken(source, 9)[6:], taken(source, 3, first_step=6)))


def test_one_of_the_variants_is_drawn_anew_each_time():
    views = {"views": np.arange(4)[:, None] * 10 + np.arange(5)}
    source = ArrayBatches(views, Sequential(4), 4, one_of=["views"])
    batches = np.array([batch["views"] for batch in taken(source, 60)])
    assert np.array_equal(batches // 10, np.tile(ROWS[:4], (60, 1)))
    assert all(set(row % 10) == set(range(5)) for row in batches.T)


def test_arrays_with_variants_get_the_same_one():
    views = np.arange(50).reshape(10, 5)
    source = ArrayBatches({"a": views, "b": -views}, Shuffled(10, 0), 5, one_of=["a", "b"])
    assert all(np.array_equal(batch["a"], -batch["b"]) for batch in taken(source, 5))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ArrayBatches(arrays(), Shuffled(10, 0), 11), "10 images are fewer than one batch of 11.*at most 10"),
        (lambda: ArrayBatches(arrays(), Shuffled(9, 0), 4), "10 images, but the sampler is for 9"),
        (lambda: ArrayBatches(arrays() | {"labels": ROWS[:7]}, Shuffled(10, 0), 4), "labels is .7,"),
        (lambda: ArrayBatches({"indices": ROWS}, Shuffled(10, 0), 4), "indices"),
        (lambda: ArrayBatches({"names": np.array(["a"] * 10)}, Shuffled(10, 0), 4), "not numbers"),
        (lambda: ArrayBatches(arrays(), Shuffled(10, 0), 4, one_of=["labels"]), "second axes"),
        (lambda: ArrayBatches(arrays(), Shuffled(10, 0), 0), "below 1"),
        (lambda: ArrayBatches(arrays(), Shuffled(10, 0), 4).batches(processes=3), "4 cannot be divided among 3"),
    ],
)
def test_what_cannot_be_batched_is_refused_at_once(make, complaint):
    with pytest.raises(DataError, match=complaint):
        make()


@pytest.mark.parametrize(
    "other",
    [
        ArrayBatches(arrays(), Shuffled(10, 1), 4),
        ArrayBatches(arrays(), Shuffled(10, 0), 5),
        ArrayBatches(arrays(), Shuffled(10, 0), 4, seed=1),
        ArrayBatches(arrays() | {"labels": ROWS}, Shuffled(10, 0), 4),
        ArrayBatches({"embeddings": arrays()["embeddings"], "classes": ROWS % 4}, Shuffled(10, 0), 4),
    ],
)
def test_fingerprint_changes_with_everything_the_batches_depend_on(other):
    assert other.fingerprint != ArrayBatches(arrays(), Shuffled(10, 0), 4).fingerprint


def test_equal_descriptions_have_equal_fingerprints():
    first, second = (ArrayBatches(arrays(), Shuffled(10, 0), 4).fingerprint for _ in range(2))
    assert first == second
