import numpy as np
import pytest
from PIL import Image

from clipjax.data.randaugment import NAMES, RandAugment, apply
from clipjax.errors import DataError

SAME_AT_ZERO = set(NAMES) - {"autocontrast", "equalize"}


def smooth(size=32):
    grid = np.random.default_rng(0).integers(20, 230, (4, 4, 3), np.uint8)
    return Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)


def test_there_are_fourteen_operations():
    assert len(set(NAMES)) == 14


@pytest.mark.parametrize("name", NAMES)
def test_operation_keeps_size_mode_and_its_argument(name):
    image = smooth()
    changed = apply(name, image, 1.0)
    assert (changed.size, changed.mode) == (image.size, "RGB")
    assert np.array_equal(image, smooth())


@pytest.mark.parametrize("name", sorted(SAME_AT_ZERO))
def test_operation_of_no_strength_changes_nothing(name):
    assert np.array_equal(apply(name, smooth(), 0.0), smooth())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"identity"}))
def test_operation_of_full_strength_changes_the_image(name):
    assert not np.array_equal(apply(name, smooth(), 1.0), smooth())


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_geometry_goes_both_ways_and_fills_what_it_uncovers(name):
    ways = [np.asarray(apply(name, Image.new("RGB", (32, 32)), 1.0, sign, (9, 8, 7))) for sign in (1, -1)]
    assert not np.array_equal(*ways)
    assert all((way == (9, 8, 7)).all(axis=-1).any() for way in ways)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y"])
def test_rotation_and_shear_leave_the_centre_in_place(name):
    image = Image.new("RGB", (33, 33))
    image.putpixel((16, 16), (255, 255, 255))
    moved = np.asarray(apply(name, image, 1.0))[..., 0]
    assert np.unravel_index(moved.argmax(), moved.shape) == (16, 16)


def test_same_generator_gives_the_same_image():
    augment = RandAugment(3, None)
    first, second = (augment(smooth(), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)


def test_every_operation_is_drawn(monkeypatch):
    drawn = set()
    monkeypatch.setattr("clipjax.data.randaugment.apply", lambda name, image, *rest: drawn.add(name) or image)
    RandAugment(300)(smooth(), np.random.default_rng(0))
    assert drawn == set(NAMES)


def test_no_operations_give_the_image_itself():
    image = smooth()
    assert RandAugment(0)(image, np.random.default_rng(0)) is image


@pytest.mark.parametrize("make", [lambda: RandAugment(magnitude=31), lambda: RandAugment(-1)])
def test_values_out_of_range_are_refused(make):
    with pytest.raises(DataError):
        make()


def test_unknown_operation_is_named():
    with pytest.raises(DataError, match=r"'melt'.*autocontrast"):
        apply("melt", smooth(), 1.0)
