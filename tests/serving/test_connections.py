"""Connections that send nothing, or half a request, or take no answer, do not stay."""

import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
import uvicorn

from clipjax.serving.connections import impatient_protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


LONG = b"ok" * 10_000_000


async def answer(scope, receive, send):
    body = LONG if scope["path"] == "/long" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def served():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(answer, log_level="error", lifespan="off", http=impatient_protocol(0.3)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield listening.getsockname()[1], server
        server.should_exit = True
        thread.join()


HALVES = {
    "nothing": b"",
    "half a line": b"POST /classify HT",
    "half a head": b"POST / HTTP/1.1\r\nHost: a\r\nA: b",
    "half a second request": REQUEST + b"GET / HT",
}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_a_connection_without_a_whole_request_is_closed(sent, served):
    with socket.create_connection(("127.0.0.1", served[0]), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(1000):
            received += part
        assert received.count(b"200 OK") == sent.count(REQUEST)


def asked_for_a_long_answer(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(REQUEST.replace(b"/", b"/long", 1))
    return connection


def test_a_connection_that_takes_no_answer_is_closed(served):
    port, server = served
    with asked_for_a_long_answer(port):
        for _ in range(300):
            if server.server_state.total_requests and not server.server_state.connections:
                break
            time.sleep(0.1)
        assert not server.server_state.connections


def test_a_slow_reader_gets_all_of_its_answer(served):
    with asked_for_a_long_answer(served[0]) as connection:
        received = 0
        for _ in range(8):  # for longer than a stuck connection may stay
            time.sleep(0.1)
            received += len(connection.recv(1_000_000))
        while part := connection.recv(1_000_000):
            received += len(part)
            if received > len(LONG):
                break
        assert received > len(LONG)
