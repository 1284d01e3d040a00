"""Connections that send nothing, or half a request, do not stay."""

import socket
import threading

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
import uvicorn

from clipjax.serving.connections import impatient_protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(answer, log_level="error", lifespan="off", http=impatient_protocol(0.3)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


HALVES = {
    "nothing": b"",
    "half a line": b"POST /classify HT",
    "half a head": b"POST / HTTP/1.1\r\nHost: a\r\nA: b",
    "half a second request": REQUEST + b"GET / HT",
}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_a_connection_without_a_whole_request_is_closed(sent, port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(1000):
            received += part
        assert received.count(b"200 OK") == sent.count(REQUEST)
