"""Connections that send nothing, or half a request, or take no answer, do not stay."""

import contextlib
import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
import uvicorn

from clipjax.cli.serve import bound
from clipjax.serving.connections import impatient_protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


LONG = 5_000_000


async def answer(scope, receive, send):
    body = b"o" * int(scope["path"][1:] or 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def served(seconds):
    with bound("127.0.0.1", 0) as listening:
        protocol = impatient_protocol(seconds)
        server = uvicorn.Server(uvicorn.Config(answer, log_level="error", lifespan="off", http=protocol))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield listening.getsockname()[1], server
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port():
    with served(0.3) as (port, _):
        yield port


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


def asked_for(length, port):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", port))
    connection.sendall(REQUEST.replace(b"/", b"/%d" % length, 1))
    return connection


def test_connections_that_take_no_answer_are_closed():
    lengths = [*range(40_000, 400_000, 20_000), LONG]  # of some the system takes all but a little, of some everything
    with served(0.3) as (port, server), contextlib.ExitStack() as kept:
        for length in lengths:
            kept.enter_context(asked_for(length, port))
        state = server.server_state
        for _ in range(300):
            time.sleep(0.1)
            if state.total_requests == len(lengths) and not state.connections:
                break
        assert state.total_requests == len(lengths) and not state.connections


def test_a_slow_reader_gets_all_of_its_answer():
    with served(2.0) as (port, _), asked_for(LONG, port) as connection:
        received = 0
        for _ in range(7):  # for longer than a stuck connection may stay
            time.sleep(0.4)
            received += len(connection.recv(200_000))
        while part := connection.recv(1_000_000):
            received += len(part)
            if received > LONG:
                break
        assert received > LONG
