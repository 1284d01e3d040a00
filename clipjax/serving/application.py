"""The HTTP service: POST /classify and /embed with images, GET /health.

A request's body is one image, or a multipart form with several files. Nothing of a
request is kept or logged.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from clipjax.serving.uploads import Held, Limits, Refused, pixels_of, read_uploads
from clipjax.serving.workers import Answer, Busy, Workers

if TYPE_CHECKING:
    from fastapi import FastAPI

MOST_CLASSES = 5
"""An answer names so many classes, or all with ?top=N."""


def application(workers: Workers, limits: Limits = Limits()) -> "FastAPI":
    """Make the service around workers."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    # no pages of documentation: they would load scripts from elsewhere
    app = FastAPI(title="clipjax", docs_url=None, redoc_url=None)
    classes, config, held = workers.classifier.class_names, workers.classifier.model.config, Held(limits.held_bytes)
    # as many as there are processors for: a decoder may need some hundred megabytes for the largest image
    decoders = ThreadPoolExecutor(_processors(), thread_name_prefix="decode")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"detail": error.reason}, error.status, headers=headers)

    async def answered(request: Request) -> list[tuple[str, Answer]]:
        loop = asyncio.get_running_loop()
        decode: Callable[[str, bytes], Awaitable[Any]] = lambda name, data: loop.run_in_executor(
            decoders, pixels_of, name, data, config, limits
        )
        with held.share() as take:
            uploads = await read_uploads(request, limits, take)
            names = [name for name, _ in uploads]
            pixels = await _all(decode(name, data) for name, data in uploads)
            del uploads
        try:
            waiting = [asyncio.wrap_future(answer) for answer in workers.submit(pixels)]
        except Busy:
            raise Refused(503, "too many images are waiting; try again") from None
        return list(zip(names, await _all(waiting)))

    @app.post("/classify")
    async def classify(request: Request, top: int = MOST_CLASSES) -> dict[str, Any]:
        if top < 1:
            raise Refused(422, "top must be at least 1")
        found = await answered(request)
        return {"results": [{"image": name, "classes": _best(answer.scores, classes, top)} for name, answer in found]}

    @app.post("/embed")
    async def embed(request: Request) -> dict[str, Any]:
        found = await answered(request)
        if found[0][1].embedding is None:
            raise Refused(404, "this classifier is the vote of several models and has no one embedding of an image")
        return {"results": [{"image": name, "embedding": np.asarray(one.embedding).tolist()} for name, one in found]}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "classes": list(classes),
            "image_size": config.image_size,
            "devices": [device.device_kind for device in workers.devices],
            "waiting": workers.waiting,
            "limits": {"images": limits.images, "image_bytes": limits.image_bytes, "pixels": limits.pixels},
        }

    return app


async def _all(parts: Any) -> list[Any]:
    """Await all, and after the first failure leave none behind whose failure nobody hears of."""
    results = await asyncio.gather(*parts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _best(scores: np.ndarray, names: tuple[str, ...], top: int) -> list[dict[str, Any]]:
    wide = scores.astype(np.float64)
    probabilities = np.exp(wide - wide.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-wide, kind="stable")[:top]
    return [{"class": names[int(i)], "probability": float(probabilities[i])} for i in order]
