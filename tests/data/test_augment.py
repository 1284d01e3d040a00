import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipjax.data.augment import (
    ColourJitter,
    Cutout,
    GaussianBlur,
    HorizontalFlip,
    RandomGrayscale,
    RandomResizedCrop,
    RandomShift,
    cut_out,
)
from clipjax.errors import DataError


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(width=48, height=32, seed=0):
    grid = rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return Image.open(io.BytesIO(buffer.getvalue()))


def pixels(image):
    return np.asarray(image).astype(int)


@settings(deadline=None)  # the machine may be busy
@given(width=st.integers(1, 3000), height=st.integers(1, 3000), low=st.floats(0.05, 1), seed=st.integers(0, 2**32))
def test_crop_lies_in_the_image_and_has_the_area_and_ratio_asked_for(width, height, low, seed):
    left, top, right, bottom = RandomResizedCrop(8, scale=(low, 1)).box(width, height, rng(seed))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    ratio = (right - left) / (bottom - top)
    assert 0.749 < ratio < 1.334
    if 0.75 < width / height < 1.333:
        assert low * 0.999 <= (right - left) * (bottom - top) / (width * height) <= 1.001


def test_crops_differ_from_draw_to_draw():
    crop, one = RandomResizedCrop(8, scale=(0.2, 1)), rng()
    assert len({crop.box(48, 32, one) for _ in range(20)}) == 20


@pytest.mark.parametrize("cut", [RandomResizedCrop(16), RandomShift(16)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb_of_the_size(cut, mode):
    cropped = cut(smooth().convert("L").convert(mode) if mode == "I;16" else smooth().convert(mode), rng())
    assert (cropped.mode, cropped.size) == ("RGB", (16, 16))


def test_cut_of_everything_is_a_resize():
    image = smooth()
    whole = cut_out(image, (0, 0, *image.size), 20)
    assert np.array_equal(whole, image.resize((20, 20), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("colours", ["RGB", "L"])
def test_large_jpeg_is_decoded_at_reduced_size_and_looks_the_same(colours):
    image, box = smooth(640, 480).convert(colours), (100.5, 60.0, 580.25, 460.0)
    opened, loaded = jpeg(image), jpeg(image)
    loaded.load()
    fast, full = cut_out(opened, box, 32), cut_out(loaded, box, 32)
    assert opened.size == (160, 120)  # a quarter; a sixth would be enough, but JPEG knows powers of two only
    assert np.abs(pixels(fast) - pixels(full)).mean() < 2


def test_small_part_of_a_large_jpeg_is_decoded_in_full():
    opened = jpeg(smooth(640, 480))
    cut_out(opened, (0, 0, 60, 60), 32)
    assert opened.size == (640, 480)


def test_truncated_image_is_a_data_error():
    buffer = io.BytesIO()
    smooth(64, 64).save(buffer, "PNG")
    with pytest.raises(DataError, match="cannot be decoded"):
        RandomResizedCrop(8)(Image.open(io.BytesIO(buffer.getvalue()[:-200])), rng())


def test_shift_of_nothing_is_the_whole_square():
    image = smooth(32, 32)
    assert np.array_equal(RandomShift(32, shift=0)(image, rng()), image)


@pytest.mark.parametrize("p", [0, 1])
def test_flip_mirrors_with_its_probability(p):
    image = smooth()
    assert np.array_equal(HorizontalFlip(p)(image, rng()), pixels(image)[:, :: 1 - 2 * p])


def test_flip_is_drawn_half_of_the_time():
    image, one = smooth(), rng()
    flips = sum(HorizontalFlip(0.5)(image, one) is not image for _ in range(400))
    assert 150 < flips < 250


def test_jitter_of_nothing_changes_nothing():
    assert np.array_equal(ColourJitter()(smooth(), rng()), smooth())


def test_brightness_scales_all_pixels_alike():
    dim = smooth().point(lambda value: value // 4 + 10)
    factors = pixels(ColourJitter(brightness=0.5)(dim, rng())) / pixels(dim)
    assert factors.std() < 0.02 and abs(factors.mean() - 1) > 0.05


def test_contrast_keeps_the_mean_luminance():
    image = smooth().point(lambda value: value // 2 + 64)
    changed = ColourJitter(contrast=0.4)(image, rng())
    assert pixels(changed).std() != pytest.approx(pixels(image).std(), rel=0.05)
    assert pixels(changed.convert("L")).mean() == pytest.approx(pixels(image.convert("L")).mean(), abs=1.5)


@pytest.mark.parametrize("jitter", [ColourJitter(saturation=0.5), ColourJitter(hue=0.5)])
def test_saturation_and_hue_keep_every_pixels_luminance(jitter):
    image = smooth().point(lambda value: value // 8 + 112)  # far from where colours are clipped
    changed = jitter(image, rng(1))
    assert np.abs(pixels(changed) - pixels(image)).max() > 2
    assert np.abs(pixels(changed.convert("L")) - pixels(image.convert("L"))).max() <= 1


@pytest.mark.parametrize("jitter", [ColourJitter(saturation=0.9), ColourJitter(hue=0.5), ColourJitter(contrast=0.9)])
def test_evenly_grey_image_has_no_colour_or_contrast_to_change(jitter):
    grey = Image.new("RGB", (8, 8), (90, 90, 90))
    assert np.abs(pixels(jitter(grey, rng())) - 90).max() <= 1


def test_jitter_of_probability_zero_is_left_out():
    image = smooth()
    assert ColourJitter(brightness=0.9, p=0)(image, rng()) is image


def test_grayscale_has_three_equal_channels():
    grey = pixels(RandomGrayscale(1)(smooth(), rng()))
    assert np.array_equal(grey[..., 0], grey[..., 1]) and np.array_equal(grey[..., 0], grey[..., 2])


def test_blur_smooths_and_keeps_the_mean():
    noise = Image.fromarray(rng().integers(0, 256, (64, 64, 3), np.uint8))
    blurred = pixels(GaussianBlur(1, (0.02, 0.03))(noise, rng()))
    assert blurred.std() < 0.5 * pixels(noise).std()
    assert blurred.mean() == pytest.approx(pixels(noise).mean(), abs=2)


@settings(deadline=None)  # the machine may be busy
@given(seed=st.integers(0, 1000))
def test_cutout_covers_at_most_its_fraction_and_leaves_the_argument_alone(seed):
    image = Image.new("RGB", (32, 32), (200, 200, 200))
    covered = pixels(Cutout(0.5, (1, 2, 3))(image, rng(seed)))
    changed = (covered != 200).all(axis=-1)
    assert changed.sum() <= 17**2
    assert (covered[changed] == (1, 2, 3)).all()
    assert (pixels(image) == 200).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomResizedCrop(8, scale=(0, 1)),
        lambda: RandomResizedCrop(8, scale=(0.5, 1.5)),
        lambda: RandomResizedCrop(8, ratio=(2, 1)),
        lambda: RandomShift(8, 1.0),
        lambda: ColourJitter(brightness=-1),
        lambda: ColourJitter(hue=0.6),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(DataError):
        make()
