"""OpenAI's inference pipeline on images of every mode, and files that are no images."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipjax.errors import DataError
from clipjax.inputs import image as image_module
from clipjax.inputs.image import (
    MAX_RESIZED_PIXELS,
    centre_box,
    crop_uint8,
    decode_image,
    normalise,
    preprocess,
    resized_size,
)

# Made by a float64 NumPy implementation of the whole pipeline, without Pillow.
GOLDEN = dict(np.load(Path(__file__).parent.parent / "golden" / "preprocess_pixels.npz"))
ONE_GREY_LEVEL = 0.0155  # after normalisation
SHARED = [
    "bilevel.png", "cmyk.jpg", "exact224.png", "exif_rotated.jpg", "gray.png", "gray16.png", "gray_alpha.png",
    "half_0p5.png", "half_1p5.png", "one_pixel.png", "palette.png", "palette_transparent.png", "rgb.jpg",
    "rgba.png", "satellite_0.jpg", "satellite_1.jpg", "small.png", "tall.png", "wide.png",
]  # fmt: skip


@pytest.mark.parametrize("name", ["rgb_shrunk", "rgb_enlarged", "rgb_same", "rgb_odd", "grey", "palette", "rgba"])
def test_pixels_equal_an_implementation_without_pillow(name):
    got = preprocess(golden_image(name), 16)
    np.testing.assert_allclose(got, GOLDEN[f"out_{name}"], atol=ONE_GREY_LEVEL)
    assert np.mean(np.abs(got - GOLDEN[f"out_{name}"]) > 1e-5) <= 0.01


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("file", SHARED)
def test_pixels_are_openai_s(shared_data, file, size):
    folder = shared_data / "golden" / "preprocess"
    made_with = json.loads((folder / "rules.json").read_text())["pillow_version"]
    if file == "gray16.png" and made_with.split(".")[0] != Image.__version__.split(".")[0]:
        pytest.skip("how 16-bit grey becomes RGB depends on the version of Pillow")
    want = np.load(folder / f"{Path(file).stem}.npz")[f"out_float_{size}"]
    got = preprocess(Image.open(folder / "images" / file), size)
    assert (got.shape, got.dtype) == (want.shape, np.float32)
    off = np.abs(got - want)
    assert off.max() <= 1e-6 or (off.max() <= ONE_GREY_LEVEL and np.mean(off > 1e-5) <= 0.01)


def test_resized_sizes_are_openai_s(shared_data):
    rules = json.loads((shared_data / "golden" / "preprocess" / "rules.json").read_text())
    for width, height, size, *resized in rules["resize_cases"]:
        assert resized_size(width, height, size) == tuple(resized)


def test_centre_crops_are_openai_s(shared_data):
    rules = json.loads((shared_data / "golden" / "preprocess" / "rules.json").read_text())
    for width, height, size, left, top, pad_left, pad_top, *_ in rules["centre_crop_cases"]:
        box = centre_box(width, height, size)
        assert box == (left - pad_left, top - pad_top, left - pad_left + size, top - pad_top + size)


def test_half_pixel_offsets_go_to_the_even_side():
    assert [centre_box(length, 4, 4)[0] for length in (5, 7, 9, 11)] == [0, 2, 2, 4]


def test_a_crop_larger_than_the_image_is_filled_with_zeros():
    ones = Image.fromarray(np.ones((2, 3, 3), np.uint8))
    crop = np.asarray(ones.crop(centre_box(3, 2, 5)))[..., 0]
    assert crop.sum(axis=0).tolist() == [0, 2, 2, 2, 0]
    assert crop.sum(axis=1).tolist() == [0, 3, 3, 0, 0]


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 40),
    st.sampled_from(["RGB", "L", "P", "RGBA", "1"]),
)
@settings(deadline=None)
def test_any_image_becomes_a_normalised_square(width, height, size, mode):
    image = Image.fromarray(noise(height, width)).convert(mode)
    got = preprocess(image, size)
    assert (got.shape, got.dtype) == ((size, size, 3), np.float32)
    assert normalise(np.zeros(3, np.uint8)).min() <= got.min()
    assert got.max() <= normalise(np.full(3, 255, np.uint8)).max()


def test_preprocess_is_crop_then_normalise():
    image = Image.fromarray(noise(30, 20))
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    want = normalise(crop_uint8(image, 12), mean, std)
    np.testing.assert_array_equal(preprocess(image, 12, mean=mean, std=std), want)


def test_normalise_takes_batches():
    batch = np.stack([noise(4, 4), noise(4, 4)[::-1]])
    np.testing.assert_array_equal(normalise(batch)[1], normalise(batch[1]))


def test_normalised_pixels_have_the_given_mean_and_deviation():
    grey = np.full((1, 1, 3), 51, np.uint8)
    np.testing.assert_allclose(normalise(grey, (0.1, 0.1, 0.2), (0.1, 0.5, 1.0)), [[[1, 0.2, 0]]], atol=1e-6)


def test_crops_can_be_changed_in_place():
    assert crop_uint8(Image.fromarray(noise(9, 9)), 4).flags.writeable


def test_the_image_itself_is_left_alone():
    image = Image.fromarray(noise(9, 7))
    before = image.tobytes()
    preprocess(image, 5)
    assert (image.size, image.tobytes()) == ((7, 9), before)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", [24, 40, 224])
@pytest.mark.parametrize("shape", [(2, 90), (90, 2), (31, 300), (300, 31), (1, 400), (24, 24)])
def test_cropping_first_agrees_with_cropping_last(monkeypatch, shape, size, mode):
    image = Image.fromarray(waves(*shape)).convert(mode)
    last = crop_uint8(image, size).astype(int)
    monkeypatch.setattr(image_module, "MAX_RESIZED_PIXELS", 0)
    first = crop_uint8(image, size).astype(int)
    # Nearest neighbours are the same pixels; otherwise each pass rounds once.
    assert np.abs(first - last).max() <= (0 if mode == "P" else 2)


@pytest.mark.parametrize("shape", [(100_000, 1), (1, 100_000), (2, 60_000)])
def test_an_extremely_long_image_is_never_enlarged_whole(monkeypatch, shape):
    resize = Image.Image.resize

    def bounded(self, size, *args, **kwargs):
        assert size[0] * size[1] <= MAX_RESIZED_PIXELS
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", bounded)
    ramp = np.linspace(0, 255, max(shape)).reshape([-1, 1] if shape[0] > shape[1] else [1, -1])
    image = Image.fromarray(np.broadcast_to(ramp, shape).astype(np.uint8))
    got = crop_uint8(image, 224)
    assert got.shape == (224, 224, 3)
    assert set(np.unique(got)) <= {126, 127, 128}  # the middle of the ramp


@pytest.mark.parametrize("size", [0, -1, 1.5, "224", True])
def test_a_size_that_is_no_positive_integer_is_refused(size):
    with pytest.raises(DataError, match="size"):
        preprocess(Image.new("RGB", (4, 4)), size)


def test_an_array_is_no_image():
    with pytest.raises(DataError, match="ndarray"):
        preprocess(noise(4, 4), 4)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DataError, match="0x5"):
        preprocess(Image.new("RGB", (0, 5)), 4)


def test_a_mode_that_cannot_become_rgb_is_refused():
    with pytest.raises(DataError, match="La"):
        preprocess(Image.new("La", (5, 5)), 4)


def test_a_lazily_opened_truncated_image_is_refused():
    with pytest.raises(DataError, match="cannot be decoded"):
        preprocess(Image.open(io.BytesIO(encoded("PNG")[:-200])), 8)


@pytest.mark.parametrize("form", ["bytes", "path", "string"])
def test_bytes_and_paths_are_decoded(tmp_path, form):
    file = tmp_path / "a.png"
    file.write_bytes(encoded("PNG"))
    data = {"bytes": encoded("PNG"), "path": file, "string": str(file)}[form]
    np.testing.assert_array_equal(np.asarray(decode_image(data, "a.png")), noise(40, 50))


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_common_formats_are_decoded(format):
    assert decode_image(encoded(format), "image").size == (50, 40)


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded("JPEG", exif=exif), "image").size == (50, 40)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_image_is_refused(format):
    data = encoded(format)
    with pytest.raises(DataError, match=r"photo 7"):
        decode_image(data[: len(data) // 2], "photo 7")


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DataError, match=r"photo 7"):
        decode_image(data, "photo 7")


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"photo 7"):
        decode_image(tmp_path / "absent.png", "photo 7")


@pytest.mark.parametrize("pixels", [1_000, 1_999])  # beyond twice the limit Pillow itself raises
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_an_error(monkeypatch, pixels):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with pytest.raises(DataError, match=r"photo 7"):
        decode_image(encoded("PNG"), "photo 7")


def test_decoding_leaves_the_warning_filters_alone():
    before = list(warnings.filters)
    decode_image(encoded("PNG"), "image")
    assert warnings.filters == before


def noise(height, width):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def waves(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([127 + 120 * np.sin(0.3 * x + 0.2 * y + phase) for phase in range(3)], -1).astype(np.uint8)


def encoded(format, **options):
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 50)).save(buffer, format, **options)
    return buffer.getvalue()


def golden_image(name):
    pixels = GOLDEN[f"in_{name}"]
    image = Image.fromarray(pixels)
    if name == "palette":
        image = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
        image.putpalette(GOLDEN["palette"].tobytes())
    return image
