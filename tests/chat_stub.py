"""A chat server on loopback that answers as it is told: well, badly, late, or not at all."""

import contextlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, tokens=7):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens - 1, "total_tokens": tokens}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "stub", "choices": [choice], "usage": usage}


class Stub:
    """What the server does: `behave(question, attempt)` returns a status, a body, or what `faults` names.

    `requests` holds every request's content; `most` is how many were under way at once.
    """

    def __init__(self, behave=lambda question, attempt: f"answer to {question}"):
        self.behave, self.requests, self.attempts = behave, [], Counter()
        self.lock, self.active, self.most, self.url = threading.Lock(), 0, 0, ""

    def handle(self, handler):
        content = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        question = content["messages"][0]["content"][-1]["text"]
        with self.lock:
            self.requests.append(content)
            self.attempts[question] += 1
            attempt = self.attempts[question]
            self.active += 1
            self.most = max(self.most, self.active)
        try:
            self.reply(handler, self.behave(question, attempt))
        finally:
            with self.lock:
                self.active -= 1

    def reply(self, handler, what):
        status, headers, body = 200, {}, what
        if isinstance(what, int):
            status, body = what, json.dumps({"error": {"message": f"status {what}"}})
            headers = {"Retry-After": "0.01"}
        elif isinstance(what, dict):
            body = json.dumps(what)
        elif what == "hang up":
            handler.close_connection = True
            return
        elif what == "half a JSON":
            body = json.dumps(completion("text"))[:40]
        elif what == "no choices":
            body = json.dumps({**completion("x"), "choices": []})
        elif what == "late":
            time.sleep(0.6)
            body = json.dumps(completion("too late"))
        else:
            body = json.dumps(completion(what))
        content = body.encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            handler.wfile.write(content)


@contextlib.contextmanager
def serving(stub):
    """Serve a stub on a free port while the block runs; its `url` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            stub.handle(self)

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass  # clients that hang up are part of the game, and a traceback would land in another test's output

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
