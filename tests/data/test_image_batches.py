import io
import itertools
import threading

import numpy as np
import pytest
from PIL import Image

from clipjax.data.caption_tokens import tokenize_captions
from clipjax.data.folder import open_folder
from clipjax.data.image_batches import STEPS_AHEAD, ImageBatches
from clipjax.data.samplers import ClassBalanced, Sequential, Shuffled
from clipjax.data.source import memory_source
from clipjax.data.views import eval_view, strong_view, train_transform, weak_view
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import openai_tokenizer

N = 20
TRAIN = train_transform(8, scale=(0.3, 1), flip=0.5)


@pytest.fixture
def source():
    """Images of noise, so that no augmentation leaves one as it was."""
    noise = np.random.default_rng(0).integers(0, 256, (N, 12, 14, 3), np.uint8)
    return memory_source([png(image) for image in noise], labels=np.arange(N) % 4)


@pytest.fixture
def captions():
    return tokenize_captions([[f"a photo of {i}", f"{i} seen from afar"] for i in range(N)], openai_tokenizer())


def taken(batches, count, first_step=0, **processes):
    stream = batches.batches(first_step, **processes)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def views():
    return {"weak": weak_view(8), "strong": strong_view(8)}


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_do_not_depend_on_the_number_of_threads(threads, source, captions):
    one, several = (
        ImageBatches(source, Shuffled(N, 1), views(), 6, 2, captions=captions, threads=t) for t in (0, threads)
    )
    assert all(map(same, taken(one, 8), taken(several, 8)))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_out_the_batches_of_one(processes, source, captions):
    batches = ImageBatches(source, Shuffled(N, 1), views(), 8, 2, captions=captions, threads=2)
    parts = [taken(batches, 4, process=process, processes=processes) for process in range(processes)]
    for step, whole in enumerate(taken(batches, 4)):
        joined = {name: np.concatenate([part[step][name] for part in parts]) for name in whole}
        assert same(joined, whole)


def test_later_start_gives_the_tail(source, captions):
    batches = ImageBatches(source, Shuffled(N, 1), TRAIN, 6, 2, captions=captions)
    assert all(map(same, taken(batches, 9)[5:], taken(batches, 4, first_step=5)))


def test_every_image_comes_once_per_epoch(source):
    indices = [batch["indices"] for batch in taken(ImageBatches(source, Shuffled(N, 1), TRAIN, 5, 2), 8)]
    assert np.array_equal(np.sort(np.concatenate(indices).reshape(2, N)), np.tile(np.arange(N), (2, 1)))


def test_pixels_and_labels_are_those_of_the_indices(source):
    for batch in taken(ImageBatches(source, Shuffled(N, 1), eval_view(12), 6, 2), 4):
        for row, index in enumerate(batch["indices"]):
            assert np.array_equal(batch["images"][row], eval_view(12)(source.image(index)))
        assert np.array_equal(batch["labels"], batch["indices"] % 4)


def test_image_is_augmented_anew_in_every_epoch(source):
    first, second = taken(ImageBatches(source, Sequential(N), weak_view(8), N, 2), 2)
    assert np.array_equal(first["indices"], second["indices"])
    assert not np.array_equal(first["images"], second["images"])


def test_view_is_the_same_whichever_others_there_are(source):
    (both,) = taken(ImageBatches(source, Shuffled(N, 1), views(), 6, 2), 1)
    (alone,) = taken(ImageBatches(source, Shuffled(N, 1), {"weak": weak_view(8)}, 6, 2), 1)
    assert np.array_equal(both["weak"], alone["weak"])


def test_pair_of_equal_transforms_gives_two_different_views(source):
    (batch,) = taken(ImageBatches(source, Sequential(N), {"first": TRAIN, "second": TRAIN}, 4, 0), 1)
    assert not np.array_equal(batch["first"], batch["second"])


def test_tokens_are_of_the_images_own_captions_and_all_are_drawn(source, captions):
    batches = taken(ImageBatches(source, Sequential(N), TRAIN, N, 2, captions=captions), 12)
    for index in range(N):
        drawn = {tuple(batch["tokens"][index]) for batch in batches}
        assert drawn == {tuple(row) for row in captions.tokens[2 * index : 2 * index + 2]}


def test_given_columns_come_along_and_replace_the_labels(source):
    columns = {"labels": np.arange(N) + 100, "targets": np.eye(N)}
    (batch,) = taken(ImageBatches(source, Shuffled(N, 0), TRAIN, 6, 0, columns=columns), 1)
    assert np.array_equal(batch["labels"], batch["indices"] + 100)
    assert np.array_equal(batch["targets"].argmax(axis=1), batch["indices"])


def test_balanced_batches_hold_every_class_equally_often(encoded):
    source = memory_source([encoded(i) for i in range(12)], labels=[0] * 9 + [1] * 2 + [2])
    for batch in taken(ImageBatches(source, ClassBalanced(source.labels, 0), TRAIN, 6, 0), 5):
        assert np.bincount(batch["labels"]).tolist() == [2, 2, 2]


@pytest.mark.parametrize("threads", [0, 2])
def test_bad_image_is_a_data_error_that_names_it(threads, encoded):
    source = memory_source([encoded(0), encoded(1)[:-30], encoded(2)], ids=["a.png", "b.png", "c.png"])
    with pytest.raises(DataError, match=r"^b\.png in memory: cannot be decoded.*--skip-bad") as error:
        taken(ImageBatches(source, Sequential(3), TRAIN, 3, 0, threads=threads), 1)
    assert type(error.value) is DataError


@pytest.mark.parametrize("threads", [0, 3])
def test_bad_image_is_replaced_and_counted(threads, encoded):
    images = [b"bad" if index in (3, 8) else encoded(index) for index in range(N)]
    batches = ImageBatches(memory_source(images), Shuffled(N, 1), TRAIN, 5, 0, threads=threads, skip_bad=True)
    indices = np.concatenate([batch["indices"] for batch in taken(batches, 4)])
    assert set(batches.bad_images) == {3, 8}
    assert batches.bad_images[3].id == "000003"
    assert not {3, 8} & set(indices)
    plain = Shuffled(N, 1)(np.arange(N))
    assert np.array_equal(indices == plain, ~np.isin(plain, [3, 8]))


def test_replacements_are_the_same_from_any_step_and_for_any_process(encoded):
    images = [encoded(index) if index % 3 else b"bad" for index in range(N)]
    batches = ImageBatches(memory_source(images), Shuffled(N, 1), TRAIN, 4, 0, skip_bad=True)
    whole = taken(batches, 6)
    assert all(map(same, whole[4:], taken(batches, 2, first_step=4)))
    part = taken(batches, 6, process=1, processes=2)
    assert all(same({name: batch[name][2:] for name in batch}, rows) for batch, rows in zip(whole, part))


def test_nothing_but_bad_images_ends_the_run_even_when_skipping():
    batches = ImageBatches(memory_source([b"bad"] * 3), Shuffled(3, 0), TRAIN, 2, 0, skip_bad=True)
    with pytest.raises(DataError, match="images in a row cannot be used"):
        taken(batches, 1)


def test_vanished_file_is_a_data_error(make_folder, encoded):
    root = make_folder({f"{name}.png": encoded() for name in "abc"})
    source = open_folder(root)
    (root / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png"):
        taken(ImageBatches(source, Sequential(3), TRAIN, 3, 0), 1)


def test_mistake_in_a_transform_is_not_taken_for_a_bad_image(source):
    class Broken:
        shape = (8, 8, 3)

        def __call__(self, image, rng, out):
            raise ZeroDivisionError("in the transform")

    with pytest.raises(ZeroDivisionError, match="in the transform"):
        taken(ImageBatches(source, Shuffled(N, 0), Broken(), 4, 0, threads=2, skip_bad=True), 1)


def test_images_are_decoded_a_bounded_number_of_batches_ahead(source):
    started, lock = 0, threading.Lock()

    class Counted:
        shape = (8, 8, 3)

        def __call__(self, image, rng, out):
            nonlocal started
            with lock:
                started += 1

    stream = ImageBatches(source, Shuffled(N, 0), Counted(), 10, 0, threads=2).batches()
    for taken_batches in range(1, 12):
        next(stream)
        assert started <= 10 * (taken_batches + STEPS_AHEAD)
    stream.close()


def test_next_batch_is_decoded_while_this_one_is_used(source):
    everything = threading.Semaphore(0)

    class Counted:
        shape = (8, 8, 3)

        def __call__(self, image, rng, out):
            everything.release()

    stream = ImageBatches(source, Shuffled(N, 0), Counted(), 10, 0, threads=2).batches()
    next(stream)
    assert all(everything.acquire(timeout=10) for _ in range(10 * (1 + STEPS_AHEAD)))
    stream.close()


def test_closing_leaves_no_thread_behind(source):
    stream = ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0, threads=3).batches()
    next(stream)
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(timeout=10)
            assert not thread.is_alive()


def test_batches_share_no_memory(source):
    first, second = taken(ImageBatches(source, Sequential(N), TRAIN, N, 0), 2)
    assert not np.shares_memory(first["images"], second["images"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"batch_size": 21}, "memory: 20 images are fewer than one batch of 21.*at most 20"),
        ({"sampler": Shuffled(5, 0)}, "20 images, but the sampler is for 5"),
        ({"columns": {"targets": np.zeros(3)}}, "targets is .3,.*one entry per image"),
        ({"columns": {"images": np.zeros(N)}}, "two parts.*'images'"),
        ({"transform": {"labels": TRAIN}}, "two parts.*'labels'"),
        ({"captions": tokenize_captions([["a"]] * 3, openai_tokenizer())}, "20 images but captions for 3"),
    ],
)
def test_what_cannot_be_batched_is_refused_at_once(options, complaint, source):
    given = {"sampler": Shuffled(N, 0), "transform": TRAIN, "batch_size": 4, "seed": 0} | options
    with pytest.raises(DataError, match=complaint):
        ImageBatches(source, **given)


def test_processes_must_divide_the_batch(source):
    with pytest.raises(DataError, match="6 cannot be divided among 4 processes; make the batch size a multiple of 4"):
        ImageBatches(source, Shuffled(N, 0), TRAIN, 6, 0).batches(processes=4)


@pytest.mark.parametrize(
    "change",
    [
        {"sampler": Shuffled(N, 1)},
        {"transform": weak_view(8)},
        {"transform": {"other": TRAIN}},
        {"batch_size": 5},
        {"seed": 1},
        {"columns": {"labels": np.zeros(N)}},
        {"captions": tokenize_captions([["a"]] * N, openai_tokenizer())},
    ],
)
def test_fingerprint_changes_with_everything_the_batches_depend_on(change, source):
    given = {"sampler": Shuffled(N, 0), "transform": TRAIN, "batch_size": 4, "seed": 0}
    assert ImageBatches(source, **given).fingerprint != ImageBatches(source, **(given | change)).fingerprint


def test_fingerprint_knows_nothing_of_threads(source):
    first, second = (ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0, threads=t).fingerprint for t in (0, 4))
    assert first == second
