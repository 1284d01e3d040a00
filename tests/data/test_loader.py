import threading

import numpy as np
import pytest

from clipjax.data.loader import image_batches, map_images
from clipjax.data.source import memory_source
from clipjax.errors import DataError


def pixels(image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def shades(batch) -> list[int]:
    """The index that `encoded` wrote into each image's colour."""
    corner = batch.images[:, 0, 0].astype(int)
    return (corner[:, 0] + 256 * corner[:, 1]).tolist()


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_batches_hold_every_image_once_and_in_order(threads, encoded):
    source = memory_source([encoded(index) for index in range(23)])
    batches = list(image_batches(source, pixels, 5, threads=threads))
    assert [len(batch.images) for batch in batches] == [5, 5, 5, 5, 3]
    assert [index for batch in batches for index in batch.indices] == list(range(23))
    assert [shade for batch in batches for shade in shades(batch)] == list(range(23))


def test_indices_are_those_of_the_selection(encoded):
    source = memory_source([encoded(index) for index in range(6)]).select([5, 3])
    (batch,) = image_batches(source, pixels, 4, threads=1)
    assert (batch.indices.tolist(), shades(batch)) == ([0, 1], [5, 3])


@pytest.mark.parametrize("threads", [0, 2])
def test_bad_image_surfaces_as_the_data_error_that_names_it(threads, encoded):
    images = [encoded(0), encoded(1)[:-30], encoded(2)]
    source = memory_source(images, ids=["a.png", "b.png", "c.png"])
    with pytest.raises(DataError, match=r"b\.png in memory.*--skip-bad") as error:
        list(image_batches(source, pixels, 2, threads=threads))
    assert type(error.value) is DataError


def test_one_truncated_image_among_ten_thousand_is_left_out_and_listed(encoded):
    images = [encoded(index, size=1) for index in range(10_000)]
    images[5_000] = images[5_000][:40]
    source = memory_source(images)
    batches = list(image_batches(source, pixels, 256, skip_bad=True))
    assert [bad.id for batch in batches for bad in batch.skipped] == ["005000"]
    kept = [shade for batch in batches for shade in shades(batch)]
    assert kept == [index for index in range(10_000) if index != 5_000]


def test_only_the_last_batch_is_short_when_images_are_skipped(encoded):
    images = [encoded(index) if index % 3 else b"" for index in range(20)]
    batches = list(image_batches(memory_source(images), pixels, 4, skip_bad=True, threads=2))
    assert [len(batch.images) for batch in batches] == [4, 4, 4, 1]


def test_bad_images_after_the_last_full_batch_are_still_listed(encoded):
    images = [encoded(0), encoded(1), b"bad", b"bad"]
    (batch,) = image_batches(memory_source(images), pixels, 2, skip_bad=True, threads=2)
    assert [bad.id for bad in batch.skipped] == ["000002", "000003"]
    assert "not an image" in batch.skipped[0].reason


def test_nothing_but_bad_images_is_an_error_even_when_skipping():
    with pytest.raises(DataError, match="not one of 3 images can be used"):
        list(image_batches(memory_source([b"bad"] * 3), pixels, 2, skip_bad=True))


def test_a_mistake_in_the_transform_is_not_taken_for_a_bad_image(encoded):
    def broken(image):
        raise ZeroDivisionError("in the transform")

    with pytest.raises(ZeroDivisionError, match="in the transform"):
        list(image_batches(memory_source([encoded()] * 3), broken, 2, skip_bad=True, threads=2))


def test_at_most_one_batch_is_decoded_ahead(encoded):
    source = memory_source([encoded(index) for index in range(200)])
    lock = threading.Lock()
    started = 0

    def counted(image):
        nonlocal started
        with lock:
            started += 1
        return pixels(image)

    batch_size, taken = 8, 0
    for batch in image_batches(source, counted, batch_size, threads=2):
        taken += len(batch.images)
        # the batch in hand, the image that completed it, and one batch ahead
        assert started <= taken + 1 + batch_size


def test_caller_that_stops_early_leaves_no_work_behind(encoded):
    source = memory_source([encoded(index) for index in range(500)])
    batches = image_batches(source, pixels, 4, threads=2)
    next(batches)
    batches.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(timeout=10)
            assert not thread.is_alive()


@pytest.mark.parametrize("threads", [0, 2])
def test_interrupt_is_not_taken_for_a_bad_image(threads, encoded):
    def interrupted(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(image_batches(memory_source([encoded()] * 9), interrupted, 4, threads=threads, skip_bad=True))


def test_map_images_keeps_the_order_of_the_source(encoded):
    source = memory_source([encoded(index) for index in range(64)])
    results = list(map_images(source, lambda index: index * index, ahead=8, threads=4))
    assert results == [(index, index * index) for index in range(64)]
