import io

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import clipjax.data.embedding_cache as module
from clipjax.data.embedding_cache import EmbeddingCache
from clipjax.data.source import memory_source
from clipjax.data.views import eval_view, train_transform, weak_view
from clipjax.errors import DataError, OutputError

KEY = {"weights": "w", "images": "i"}


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture
def source(encoded):
    return memory_source([encoded(25 * index, size=12) for index in range(10)])


class Encoder:
    """Embeds an image as the means of its colours, and counts the images and the shapes it gets."""

    def __init__(self, stop_after=10**9):
        self.images, self.shapes, self.stop_after = 0, set(), stop_after

    def __call__(self, images):
        self.images += len(images)
        self.shapes.add(images.shape)
        if self.images > self.stop_after:
            raise KeyboardInterrupt
        return images.mean(axis=(1, 2))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def never():
    raise AssertionError("computed although it is stored")


def test_stored_array_is_returned_and_not_computed_again(cache):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert_array_equal(cache.get_or_compute(KEY, lambda: array), array)
    assert_array_equal(cache.get_or_compute(KEY, never), array)


def test_other_key_is_another_array(cache):
    cache.get_or_compute(KEY, lambda: np.zeros(2))
    assert_array_equal(cache.get_or_compute(KEY | {"weights": "v"}, lambda: np.ones(2)), np.ones(2))


def test_order_of_the_key_does_not_matter(cache):
    cache.get_or_compute(KEY, lambda: np.zeros(2))
    assert_array_equal(cache.get_or_compute(dict(reversed(KEY.items())), never), np.zeros(2))


@pytest.mark.parametrize("kept", [0, 1, 60, 300])
def test_truncated_file_is_computed_anew_and_replaced(kept, cache):
    array = np.arange(50.0)
    cache.get_or_compute(KEY, lambda: array)
    path = cache.path(KEY)
    path.write_bytes(path.read_bytes()[:kept])
    assert_array_equal(cache.get_or_compute(KEY, lambda: array + 1), array + 1)
    assert_array_equal(cache.get_or_compute(KEY, never), array + 1)


def test_no_flipped_byte_is_ever_believed(cache):
    array = np.arange(20, dtype=np.float32)
    cache.get_or_compute(KEY, lambda: array)
    path = cache.path(KEY)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        assert_array_equal(cache.get_or_compute(KEY, lambda: array), array)


def test_file_of_another_key_under_this_name_is_not_believed(cache):
    cache.get_or_compute(KEY | {"images": "j"}, lambda: np.ones(2))
    cache.path(KEY | {"images": "j"}).rename(cache.path(KEY))
    assert_array_equal(cache.get_or_compute(KEY, lambda: np.zeros(2)), np.zeros(2))


def test_failed_computation_leaves_nothing(cache):
    with pytest.raises(KeyboardInterrupt):
        cache.get_or_compute(KEY, lambda: Encoder(stop_after=0)(np.zeros((1, 2, 2, 3))))
    assert not cache.folder.exists()


def test_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cache"):
        EmbeddingCache(tmp_path / "cache").get_or_compute(KEY, lambda: np.zeros(2))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_embeddings_are_the_encoders_in_order(batch_size, cache, source):
    encoder = Encoder()
    rows = cache.embed(source, encoder, eval_view(8), weights="w", batch_size=batch_size)
    expected = [eval_view(8)(source.image(index)).mean(axis=(0, 1)) for index in range(10)]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    assert rows.dtype == np.float32
    assert len(encoder.shapes) == 1


def test_second_time_nothing_is_encoded(cache, source):
    first = cache.embed(source, Encoder(), eval_view(8), weights="w")
    assert_array_equal(cache.embed(source, Encoder(stop_after=0), eval_view(8), weights="w"), first)


@pytest.mark.parametrize(
    "change", [{"weights": "v"}, {"transform": weak_view(8)}, {"views": 1}, {"seed": 1}, {"source": slice(0, 9)}]
)
def test_embeddings_of_anything_else_are_made_anew(change, cache, source):
    given = {"source": source, "transform": eval_view(8), "weights": "w"}
    cache.embed(encode=Encoder(), **given)
    if "source" in change:
        change = {"source": source.select(np.arange(10)[change["source"]])}
    encoder = Encoder()
    cache.embed(encode=encoder, **(given | change))
    assert encoder.images > 0


def test_views_are_drawn_independently_and_repeatably(tmp_path):
    rng = np.random.default_rng(0)
    source = memory_source([png(rng.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(6)])
    view = train_transform(8, scale=(0.2, 0.9))
    first, second = (
        EmbeddingCache(tmp_path / name).embed(source, Encoder(), view, weights="w", views=3, batch_size=size, threads=t)
        for name, size, t in (("a", 4, 0), ("b", 64, 3))
    )
    assert first.shape == (6, 3, 3)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert len(np.unique(first[:, :, 0])) == 18


def test_stopped_run_goes_on_where_it_was(cache, source, monkeypatch):
    monkeypatch.setattr(module, "EMBEDDINGS_PER_PIECE", 4)
    given = {"source": source, "transform": eval_view(8), "weights": "w", "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        cache.embed(encode=Encoder(stop_after=8), **given)
    rest = Encoder()
    rows = cache.embed(encode=rest, **given)
    assert rest.images == 2
    whole = EmbeddingCache(cache.folder / "other").embed(encode=Encoder(), **given)
    assert_array_equal(rows, whole)


def test_pieces_are_gone_when_the_whole_is_stored(cache, source, monkeypatch):
    monkeypatch.setattr(module, "EMBEDDINGS_PER_PIECE", 4)
    cache.embed(source, Encoder(), eval_view(8), weights="w")
    assert [path.suffix for path in cache.folder.iterdir()] == [".npz"]


def test_bad_image_is_named(cache, encoded):
    source = memory_source([encoded(0), encoded(1)[:-30]], ids=["a.png", "b.png"])
    with pytest.raises(DataError, match=r"^b\.png in memory: cannot be decoded") as error:
        cache.embed(source, Encoder(), eval_view(8), weights="w")
    assert "skip" not in str(error.value)


def test_progress_counts_every_view(cache, source):
    seen = []

    def count(items, *, total, label, unit="images", step=1):
        for item in items:
            seen.append(len(item))
            yield item
        assert total == sum(seen)

    cache.embed(source, Encoder(), weak_view(8), weights="w", views=2, batch_size=8, progress=count)
    assert sum(seen) == 20


@pytest.mark.parametrize("views", [0, -1])
def test_views_below_one_are_refused(views, cache, source):
    with pytest.raises(DataError, match="ask for 1 or more"):
        cache.embed(source, Encoder(), eval_view(8), weights="w", views=views)
