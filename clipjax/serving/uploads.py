"""From a request's body to pixels, within limits: whatever is sent, the worst that comes of it is a refusal."""

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from clipjax.errors import DataError
from clipjax.inputs.image import crop_uint8, load_pixels, open_image
from clipjax.models.config import CLIPConfig

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request may be: bytes of an image and of all, images, pixels of an image, seconds to send it.

    `held_bytes` may all requests together have until their images are decoded.
    """

    image_bytes: int = 10_000_000
    request_bytes: int = 40_000_000
    images: int = 32
    pixels: int = 50_000_000
    seconds: float = 60.0
    held_bytes: int = 1_000_000_000


class Held:
    """Counts the bytes of all requests that have not been decoded yet; nobody else does."""

    def __init__(self, most: int):
        self.most, self.now = most, 0

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yield what counts a request's bytes as they come; at the end of the block they are given back.

        What is yielded raises `Refused` when all requests together have too many.
        """
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self.now + count > self.most:
                raise Refused(503, "too many bytes are being received; try again")
            own += count
            self.now += count

        try:
            yield take
        finally:
            self.now -= own


class Refused(Exception):
    """A request that is turned down, with the status and the reason that the client gets."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


async def read_uploads(
    request: "Request", limits: Limits, take: Callable[[int], None] = lambda count: None
) -> list[tuple[str, bytes]]:
    """Return names and bytes of the images in a request: the body itself, or the files of a multipart form.

    `take` hears of all bytes as they come, and may refuse them (`Held`).

    Raises:
      Refused: too large, too many, none, malformed, or sent too slowly.
    """
    import asyncio

    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request

    multipart = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"
    most = limits.request_bytes if multipart else limits.image_bytes
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared[:20]) > most:
        raise Refused(413, f"the request has {int(declared[:20])} bytes; at most {most} are taken")
    request = Request(request.scope, _counted(request.receive, most, take))
    try:
        async with asyncio.timeout(limits.seconds):
            found = await _files(request, limits) if multipart else [("image", await request.body())]
    except TimeoutError:
        raise Refused(408, f"the request took longer than {limits.seconds:g} seconds to arrive") from None
    except HTTPException as error:  # what the parser says of a malformed form
        raise Refused(error.status_code, str(error.detail)) from None
    except ValueError:  # a codec that the client names and that has errors of its own
        raise Refused(400, "the form is malformed") from None
    except ClientDisconnect:
        raise Refused(400, "the request ended before its body did") from None
    if not found or not any(data for _, data in found):
        raise Refused(422, "no image: send one as the body, or several as files of a multipart form")
    for name, data in found:
        if len(data) > limits.image_bytes:
            raise Refused(413, f"{name} has {len(data)} bytes; at most {limits.image_bytes} are taken")
    return found


def pixels_of(name: str, data: bytes, config: CLIPConfig, limits: Limits) -> UInt8[np.ndarray, "side side 3"]:
    """Decode an image and cut out its centre as the model was trained to see images.

    Raises:
      Refused: it is no image, damaged, or has too many pixels.
    """
    try:
        image = open_image(data, name)
        if image.width * image.height > limits.pixels:
            raise Refused(413, f"{name}: {image.width}x{image.height} pixels; at most {limits.pixels} are taken")
        load_pixels(image, name)
        return crop_uint8(image, config.image_size, config.preprocessing)
    except DataError as error:
        raise Refused(422, str(error)) from None


async def _files(request: "Request", limits: Limits) -> list[tuple[str, bytes]]:
    from starlette.datastructures import UploadFile

    async with request.form(max_files=limits.images, max_fields=0) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [(_printable(file.filename or f"image {n}"), await file.read()) for n, file in enumerate(files, 1)]


def _counted(
    receive: Callable[[], Awaitable[Any]], most: int, take: Callable[[int], None]
) -> Callable[[], Awaitable[Any]]:
    """Refuse a body that turns out longer than it may be, whatever its header said."""
    so_far = 0

    async def counted() -> Any:
        nonlocal so_far
        message = await receive()
        count = len(message.get("body", b""))
        take(count)
        so_far += count
        if so_far > most:
            raise Refused(413, f"the request has more than {most} bytes")
        return message

    return counted


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:200]
