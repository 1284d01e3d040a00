"""clipjax serve RUN --port 8000"""

import argparse
import math
import socket
import sys
import warnings
from pathlib import Path

from clipjax.cli.options import add_compute, add_json, given, natural, positive
from clipjax.errors import ConfigError


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="answer over HTTP with what `adapt` made: classify and embed",
        description="Serve an adapted classifier over HTTP: POST an image, or several as a multipart form, to "
        "/classify or /embed; GET /health. Images that come together are computed together. Needs the extra `serve`.",
    )
    parser.add_argument("classifier", type=given, metavar="RUN", help="the directory of `adapt`, or its model/")
    add_compute(parser)
    parser.add_argument("--host", default="127.0.0.1", type=given, help="default: 127.0.0.1, this machine alone")
    parser.add_argument("--port", type=natural, default=8000, help="default: 8000; 0 takes any that is free")
    parser.add_argument("--max-images", type=positive, default=32, metavar="N", help="of one request (default: 32)")
    parser.add_argument(
        "--max-bytes", type=positive, default=10_000_000, metavar="N", help="of one image (default: 10 million)"
    )
    parser.add_argument(
        "--max-pixels", type=positive, default=50_000_000, metavar="N", help="of one image (default: 50 million)"
    )
    parser.add_argument(
        "--max-waiting",
        type=positive,
        default=1024,
        metavar="N",
        help="images, and connections, at once (default: 1024)",
    )
    parser.add_argument(
        "--max-memory", type=positive, default=1000, metavar="MB", help="of all requests being received (default: 1000)"
    )
    add_json(parser)
    parser.set_defaults(run=run, interrupted="the service has stopped")


def run(args: argparse.Namespace) -> None:
    import asyncio
    import importlib.util
    import logging

    from PIL import Image

    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "python_multipart")):
        raise ConfigError("serving needs FastAPI and uvicorn; pip install 'clipjax[serve]'")
    if args.max_waiting < args.max_images:
        raise ConfigError(f"--max-waiting {args.max_waiting} is less than one request may have; give --max-images, too")
    if args.max_pixels > (most := Image.MAX_IMAGE_PIXELS or math.inf):
        raise ConfigError(f"--max-pixels {args.max_pixels}: Pillow refuses more than {most}; give at most that")
    import uvicorn

    from clipjax.classify.saved import load_classifier
    from clipjax.cli.console import note, print_json, working
    from clipjax.serving.application import application
    from clipjax.serving.connections import impatient_protocol
    from clipjax.serving.uploads import Limits
    from clipjax.serving.workers import Workers

    # Pillow warns of odd files in words that are theirs: Python would print and remember each
    warnings.filterwarnings("ignore", module=r"PIL\.")
    place = Path(args.classifier)
    # before the model is loaded: a port in use is known at once
    with bound(args.host, args.port) as listening:
        with working(f"loading {place}"):
            saved = load_classifier(place / "model" if (place / "model").is_dir() else place)
        with working("compiling"):
            workers = Workers(saved.with_dtype(args.dtype), batch_size=args.batch_size, most_waiting=args.max_waiting)
        limits = Limits(
            image_bytes=args.max_bytes,
            request_bytes=min(4, args.max_images) * args.max_bytes + 1_000_000,
            images=args.max_images,
            pixels=args.max_pixels,
            held_bytes=args.max_memory * 1_000_000,
        )
        config = uvicorn.Config(
            application(workers, limits),
            log_level="warning",
            access_log=False,
            http=impatient_protocol(),
            limit_concurrency=args.max_waiting + 1,  # connections, this one among them
            timeout_graceful_shutdown=10,
        )
        # uvicorn says of each request that a stop cuts short how it was
        logging.getLogger("uvicorn.error").addFilter(
            lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
        )
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if args.json:
            print_json({"address": address, "run": str(place), "classes": len(saved.class_names)})
            sys.stdout.flush()  # whoever started this waits for the line
        note(f"serving {place} at {address}; Ctrl-C stops it")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            workers.close()


def bound(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Raises:
      ConfigError: it is taken, not allowed, or none of this machine.
    """
    from clipjax.serving.connections import SEND_BUFFER

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
            listening.bind((host, port))
            listening.listen(128)  # two may bind one port, but only one may listen
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host} --port {port}: cannot be used ({reason}); choose another --port") from None
    return listening
