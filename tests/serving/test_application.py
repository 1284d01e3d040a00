"""The service, asked through its test client: what it answers, and what it refuses."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from PIL import Image
from test_workers import classifier_of

from clipjax.classify.arrays import score_pixels
from clipjax.classify.ensemble import Ensemble
from clipjax.inputs.image import crop_uint8

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from starlette.testclient import TestClient

from clipjax.serving.application import application
from clipjax.serving.uploads import Limits, Refused, pixels_of
from clipjax.serving.workers import Workers

LIMITS = Limits(image_bytes=20_000, request_bytes=60_000, images=3, pixels=10_000, seconds=5)


def picture(side=40, kind="PNG", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 9, 3)).astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()


@pytest.fixture(scope="module")
def workers():
    made = Workers(classifier_of(), batch_size=4, devices=jax.devices()[:1])
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(workers):
    # an exception inside of the service is one here: nothing may become a status of 500
    with TestClient(application(workers, LIMITS), raise_server_exceptions=True) as asked:
        yield asked


def form(*images, field="images"):
    return [(field, (f"{n}.png", data, "image/png")) for n, data in enumerate(images)]


def wanted_of(workers, data):
    pixels = crop_uint8(Image.open(io.BytesIO(data)), 16, workers.classifier.model.config.preprocessing)
    scores = np.asarray(score_pixels(workers.classifier, pixels[None])[0], np.float64)
    powers = np.exp(scores - scores.max())
    return dict(zip("abc", powers / powers.sum()))


def test_an_image_is_classified(client, workers):
    (found,) = client.post("/classify", content=picture()).json()["results"]
    wanted = wanted_of(workers, picture())
    assert {one["class"]: one["probability"] for one in found["classes"]} == pytest.approx(wanted, abs=1e-5)
    assert found["classes"][0]["class"] == max(wanted, key=wanted.get)


def test_several_images_are_answered_in_order_under_their_names(client, workers):
    images = [picture(seed=seed) for seed in range(3)]
    found = client.post("/classify?top=1", files=form(*images)).json()["results"]
    assert [one["image"] for one in found] == ["0.png", "1.png", "2.png"]
    best = [max(wanted := wanted_of(workers, data), key=wanted.get) for data in images]
    assert [[one["class"] for one in each["classes"]] for each in found] == [[name] for name in best]


def test_an_image_is_embedded(client, workers):
    (found,) = client.post("/embed", content=picture(kind="JPEG")).json()["results"]
    assert len(found["embedding"]) == workers.classifier.model.config.embed_dim


def test_a_vote_has_no_embedding():
    workers = Workers(Ensemble((classifier_of(), classifier_of())), batch_size=1, devices=jax.devices()[:1])
    with TestClient(application(workers, LIMITS)) as client:
        assert client.post("/embed", content=picture()).status_code == 404
        assert client.post("/classify", content=picture()).status_code == 200
    workers.close()


def test_health_says_what_is_served(client):
    found = client.get("/health").json()
    assert (found["status"], found["classes"], found["limits"]["images"]) == ("ok", ["a", "b", "c"], 3)


BOMB = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x00\x00\x00\x01\x00\x00\x08\x02\x00\x00\x00\xe2\x9e\xb1\xbd"
HOSTILE = {
    "nothing": ({"content": b""}, 422),
    "text": ({"content": b"hello"}, 422),
    "html": ({"content": b"<svg xmlns='x'><script>alert(1)</script></svg>"}, 422),
    "cut short": ({"content": picture()[:200]}, 422),
    "one bit flipped": ({"content": picture()[:300] + b"\xff" + picture()[301:]}, 422),
    "postscript": ({"content": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}, 422),
    "a header that promises 65,536 x 65,536 pixels": ({"content": BOMB}, (413, 422)),
    "too many pixels": ({"content": picture(side=120, kind="GIF")}, 413),
    "too many bytes": ({"content": b"\x00" * 20_001}, 413),
    "too many bytes in a stream": ({"content": iter([b"\x00" * 10_000] * 3)}, 413),
    "too many images": ({"files": form(*[picture(20)] * 4)}, 400),
    "a large image in a form": ({"files": form(b"\x00" * 20_001)}, 413),
    "a large form": ({"files": form(*[b"\x00" * 19_999] * 3, b"\x00" * 19_999)}, 413),
    "a form without files": ({"data": {"images": "text"}, "files": form()}, (400, 422)),
    "a form with a field": ({"data": {"a": "b"}, "files": form(picture(20))}, 400),
    "a form without a boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    "a form that is none": (
        {"content": b"\r\n--x--\r\n" * 9, "headers": {"content-type": "multipart/form-data; boundary=y"}},
        (400, 422),
    ),
    **{
        f"a form in the codec {codec}": (
            {
                "content": b'--y\r\nContent-Disposition: form-data; name="a"; filename="\xff"\r\n\r\nb\r\n--y--\r\n',
                "headers": {"content-type": f"multipart/form-data; boundary=y; charset={codec}"},
            },
            (400, 422),
        )
        for codec in ("undefined", "punycode", "nothing")
    },
    "an empty file in a form": ({"files": form(b"")}, 422),
    "a broken image among sound ones": ({"files": form(picture(20), b"no", picture(20))}, 422),
    "a length that is no number": ({"content": b"x", "headers": {"content-length": "1e9"}}, 422),
}


@pytest.mark.parametrize(("request_", "status"), HOSTILE.values(), ids=HOSTILE)
def test_whatever_is_sent_is_refused_with_a_4xx_and_nothing_else(request_, status, client, workers):
    sent = client.post("/classify", **request_)
    assert sent.status_code in (status if isinstance(status, tuple) else (status,)), sent.text
    assert isinstance(sent.json()["detail"], str)
    assert workers.waiting == 0
    assert client.post("/classify", content=picture()).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/classify", 405),
        ("post", "/nothing", 404),
        ("post", "/classify?top=0", 422),
        ("post", "/classify?top=x", 422),
    ],
)
def test_other_requests_are_refused(method, path, status, client):
    assert getattr(client, method)(path).status_code == status


def test_a_slow_sender_is_not_waited_for(workers):
    import asyncio

    from starlette.requests import Request

    from clipjax.serving.uploads import Refused, read_uploads

    async def never():
        await asyncio.sleep(3600)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(Refused, match="took longer") as refused:
        asyncio.run(read_uploads(Request(scope, never), Limits(seconds=0.01)))
    assert refused.value.status == 408


def test_all_requests_together_have_only_so_many_bytes_and_give_them_back(workers):
    image = picture()
    limits = dataclasses.replace(LIMITS, held_bytes=len(image) + 10)
    with TestClient(application(workers, limits)) as client:
        for _ in range(3):
            assert client.post("/classify", content=image).status_code == 200
            assert client.post("/classify", content=b"no image").status_code == 422
        sent = client.post("/classify", content=image + b"\x00" * 11)
        assert (sent.status_code, sent.headers["retry-after"]) == (503, "1")
        assert client.post("/classify", content=image).status_code == 200


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_a_file_with_bytes_changed_anywhere_is_read_or_refused(kind, workers):
    random, sound = np.random.default_rng(1), picture(side=24, kind=kind)
    config = workers.classifier.model.config
    for _ in range(60):
        data = bytearray(sound[: random.integers(1, len(sound) + 1)] if random.random() < 0.3 else sound)
        for _ in range(random.integers(1, 6)):
            data[int(random.integers(0, min(len(data), random.choice([20, 100, 10_000]))))] = random.integers(0, 256)
        try:
            assert pixels_of("a file", bytes(data), config, LIMITS).shape == (16, 16, 3)
        except Refused as refused:
            assert refused.status in (413, 422)


def test_when_too_many_wait_the_client_is_told_to_come_back(workers, monkeypatch):
    from clipjax.serving.workers import Busy

    def full(images):
        raise Busy

    monkeypatch.setattr(workers, "submit", full)
    with TestClient(application(workers, LIMITS)) as client:
        sent = client.post("/classify", content=picture())
    assert (sent.status_code, sent.headers["retry-after"]) == (503, "1")


def test_a_name_of_a_file_is_printable_and_short(client):
    name = "a\nb" + "c" * 500
    found = client.post("/classify", files=[("images", (name, picture(), "image/png"))]).json()["results"]
    assert found[0]["image"].isprintable() and len(found[0]["image"]) <= 200
