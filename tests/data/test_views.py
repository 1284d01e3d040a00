import io

import numpy as np
import pytest
from PIL import Image

from clipjax.data.augment import ColourJitter
from clipjax.data.randaugment import RandAugment
from clipjax.data.views import WantedView, eval_view, strong_view, train_transform, weak_view, write_views
from clipjax.errors import DataError
from clipjax.inputs.image import normalise, preprocess

ALL = {
    "train": train_transform(24, jitter=ColourJitter(0.4, 0.4, 0.4, 0.1), grayscale=0.2, blur=0.5, flip=0.5),
    "randaugment": train_transform(24, rand_augment=RandAugment()),
    "weak": weak_view(24),
    "strong": strong_view(24),
    "eval": eval_view(24),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(width=40, height=32):
    grid = rng().integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, file_format="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_view_is_float32_of_its_shape_and_the_same_for_equal_generators(name, mode):
    view = ALL[name]
    first, second = (view(smooth().convert(mode), rng(7)) for _ in range(2))
    assert (first.dtype, first.shape, view.shape) == (np.float32, (24, 24, 3), (24, 24, 3))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"eval"}))
def test_views_differ_between_generators(name):
    assert not np.array_equal(ALL[name](smooth(), rng(1)), ALL[name](smooth(), rng(2)))


@pytest.mark.parametrize("name", ALL)
def test_view_is_written_into_the_array_given(name):
    out = np.full((24, 24, 3), np.nan, np.float32)
    assert ALL[name](smooth(), rng(3), out) is out
    assert np.array_equal(out, ALL[name](smooth(), rng(3)))


@pytest.mark.parametrize("rule", ["openai", "transformers"])
def test_eval_view_is_the_models_own_preprocessing(rule):
    assert np.array_equal(eval_view(24, rule=rule)(smooth(41, 30), rng()), preprocess(smooth(41, 30), 24, rule=rule))


def test_views_are_normalised_as_at_inference():
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    view = weak_view(32, mean, std, shift=0, flip=0)
    image = smooth(32, 32)
    np.testing.assert_allclose(view(image, rng()), normalise(np.asarray(image), mean, std), atol=1e-6)


def test_strong_view_changes_more_than_the_weak_one():
    image = smooth()
    plain = weak_view(24, shift=0)(image, rng())
    changes = {name: np.mean([np.abs(ALL[name](image, rng(n)) - plain).mean() for n in range(20)]) for name in ALL}
    assert changes["strong"] > changes["weak"]


def test_what_the_strong_view_covers_is_zero_after_normalisation():
    view = strong_view(24, operations=0, shift=0, flip=0, cutout=1.0)
    covered = [view(Image.new("RGB", (24, 24), "white"), rng(seed)) for seed in range(10)]
    assert min(np.abs(array).min() for array in covered) < 0.01


def test_training_without_options_crops_and_nothing_else():
    assert train_transform(24).steps == ()


@pytest.mark.parametrize("other", [train_transform(25), train_transform(24, flip=0.1), weak_view(24), eval_view(24)])
def test_repr_tells_transforms_apart(other):
    assert repr(other) != repr(train_transform(24))


def test_probabilities_out_of_range_are_refused():
    with pytest.raises(DataError, match="flip 2"):
        train_transform(24, flip=2)


@pytest.mark.parametrize("size", [(40, 32), (400, 320)])
def test_views_of_one_image_do_not_depend_on_each_other(size):
    data = encoded(smooth(*size), "JPEG")
    together = {name: np.empty((24, 24, 3), np.float32) for name in ("strong", "eval", "weak")}
    write_views(data, "a", [WantedView(ALL[name], rng(4), out) for name, out in together.items()])
    for name, out in together.items():
        alone = np.empty_like(out)
        write_views(data, "a", [WantedView(ALL[name], rng(4), alone)])
        assert np.array_equal(alone, out)


@pytest.mark.parametrize("names", [["weak"], ["eval"], ["weak", "strong"]])
def test_image_that_cannot_be_decoded_is_named(names):
    wanted = [WantedView(ALL[name], rng(), np.empty((24, 24, 3), np.float32)) for name in names]
    with pytest.raises(DataError, match=r"^b\.png: cannot be decoded"):
        write_views(encoded(smooth())[:-60], "b.png", wanted)
