"""From image files to the arrays a vision tower expects, pixel for pixel as the published pipelines make them.

Random augmentation is not here. EXIF orientation is ignored on purpose: the published pipeline uses
the stored order of pixels.
"""

import io
import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from clipjax.errors import DataError
from clipjax.models.config import OPENAI_MEAN, OPENAI_STD, Preprocessing

# Enlarged images beyond this size are cropped before they are resized: 64 MB in RGB, an aspect
# ratio of 334 to 1 at 224 pixels.
MAX_RESIZED_PIXELS = 1 << 24

# No EPS, which Pillow hands to Ghostscript, and no formats that nobody photographs in.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def preprocess(
    image: Image.Image,
    size: int,
    *,
    mean: tuple[float, float, float] = OPENAI_MEAN,
    std: tuple[float, float, float] = OPENAI_STD,
    rule: Preprocessing = "openai",
) -> Float[np.ndarray, "size size 3"]:
    """Prepare one image for inference: resize, centre crop, RGB, normalise.

    Raises:
      DataError: not a PIL image, one that cannot be decoded, or a size below 1.
    """
    return normalise(crop_uint8(image, size, rule), mean, std)


def crop_uint8(image: Image.Image, size: int, rule: Preprocessing = "openai") -> UInt8[np.ndarray, "size size 3"]:
    """Resize the short side to `size`, bicubic, and cut out the centre in RGB.

    OpenAI's rule resizes in the image's own mode, where Pillow's habits hold: palette and bilevel
    images are resized by nearest neighbour, transparent ones with premultiplied colours, and
    16-bit grey is clipped to 255. The rule of transformers' image processor converts to RGB
    first, and rounds the offset of the centre down. Photographs differ by half a pixel at most.

    An image so long that its enlarged form would exceed `MAX_RESIZED_PIXELS` is cropped first,
    which agrees with the other order up to rounding and needs no memory for what is thrown away.

    Raises:
      DataError: not a PIL image, one that cannot be decoded, or a size below 1.
    """
    if not isinstance(image, Image.Image):
        raise DataError(f"expected a PIL image, got {type(image).__name__}; use decode_image or Image.fromarray")
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise DataError(f"image size {size!r} is not a positive integer")
    size = int(size)
    if min(image.size) < 1:
        raise DataError(f"an image of {image.width}x{image.height} pixels has nothing to show")
    name = getattr(image, "filename", None) or "image"
    load_pixels(image, name)
    width, height = resized_size(image.width, image.height, size)
    box = centre_box(width, height, size, rule)
    try:
        if rule == "transformers":
            image = image.convert("RGB")
        if width * height <= MAX_RESIZED_PIXELS:
            crop = image.resize((width, height), Image.Resampling.BICUBIC).crop(box)
        else:
            crop = _crop_then_resize(image, (width, height), box)
        return np.array(crop.convert("RGB"))
    except ValueError as error:
        raise DataError(f"{name}: mode {image.mode} is not supported ({error}); convert it to RGB") from error


def normalise(
    pixels: UInt8[np.ndarray, "*shape 3"],
    mean: tuple[float, float, float] = OPENAI_MEAN,
    std: tuple[float, float, float] = OPENAI_STD,
) -> Float[np.ndarray, "*shape 3"]:
    """Scale bytes to [0, 1] and standardise each colour, in float32 and in the published order."""
    scaled = np.array(pixels, np.float32)
    scaled /= np.float32(255)
    scaled -= np.asarray(mean, np.float32)
    scaled /= np.asarray(std, np.float32)
    return scaled


def decode_image(data: bytes | str | os.PathLike, name: str) -> Image.Image:
    """Read a whole image from bytes or from a path, in its own mode and without EXIF rotation.

    `name` is what messages call it. Pillow's limit on the number of pixels, `Image.MAX_IMAGE_PIXELS`,
    is an error here and not a warning.

    Raises:
      DataError: unreadable, truncated, too large, or not of a supported format.
    """
    if not isinstance(data, bytes):
        try:
            data = Path(data).read_bytes()
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error
    image = open_image(data, name)
    load_pixels(image, name)
    return image


def open_image(data: bytes, name: str) -> Image.Image:
    """Read an image's header: its pixels are decoded when somebody asks, `load_pixels` for one.

    Raises:
      DataError: too large, or not of a supported format.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image in a supported format ({', '.join(_FORMATS)})") from error
    except Exception as error:  # Pillow's readers let through whatever a broken file causes
        raise DataError(f"{name}: cannot be decoded ({error}); replace or remove the file") from error
    # Compared here because turning a warning into an exception is a matter of the whole process,
    # and images are decoded in threads.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(f"{name}: {image.width}x{image.height} pixels exceed the limit of {limit}; reduce the image")
    return image


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode the pixels of an opened image, unless that has been done.

    Raises:
      DataError: they are truncated or damaged.
    """
    try:
        image.load()
    except Exception as error:  # Pillow's readers let through whatever a broken file causes
        raise DataError(f"{name}: cannot be decoded ({error}); replace or remove the file") from error


def resized_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Give width and height once the short side is `size`; the long side is rounded down."""
    long_side = int(size * max(width, height) / min(width, height))
    return (size, long_side) if width <= height else (long_side, size)


def centre_box(width: int, height: int, size: int, rule: Preprocessing = "openai") -> tuple[int, int, int, int]:
    """Give left, top, right and bottom of the square in the middle.

    Offsets of half a pixel go to the even side with OpenAI's rule, down with transformers'. A side
    shorter than `size` gives a negative offset: `Image.crop` fills what lies outside with zeros.
    """

    def offset(length: int) -> int:
        if length < size:
            return -((size - length) // 2)
        return (length - size) // 2 if rule == "transformers" else round((length - size) / 2)

    left, top = offset(width), offset(height)
    return left, top, left + size, top + size


def _crop_then_resize(image: Image.Image, resized: tuple[int, int], target: tuple[int, int, int, int]) -> Image.Image:
    """Compute only the centre of the resized image, from the pixels that bicubic interpolation looks at.

    Pillow takes the box as 32-bit floats, too coarse for an image of 100,000 pixels, so the pixels
    around the centre are cut out first and the box is small.
    """
    left, top, right, bottom = target
    scale_x, scale_y = image.width / resized[0], image.height / resized[1]
    box = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
    reach_x, reach_y = (math.ceil(2 * max(scale, 1)) + 1 for scale in (scale_x, scale_y))
    outer = (
        max(0, math.floor(box[0]) - reach_x),
        max(0, math.floor(box[1]) - reach_y),
        min(image.width, math.ceil(box[2]) + reach_x),
        min(image.height, math.ceil(box[3]) + reach_y),
    )
    inner = (
        box[0] - outer[0],
        box[1] - outer[1],
        min(box[2] - outer[0], outer[2] - outer[0]),
        min(box[3] - outer[1], outer[3] - outer[1]),
    )
    return image.crop(outer).resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=inner)
