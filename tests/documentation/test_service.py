"""The page on serving: its server is started, asked by its curl commands, and stopped."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from pages import commands_in, shell_lines

from clipjax.cli.main import main

PAGE = "docs/serving.md"
ADAPTED = "adapt --method zero_shot --weights ViT-B-32.pt --images photos/ --classes classes.txt -o run"


def wait_for(address, server):
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            return urllib.request.urlopen(f"{address}/health", timeout=10).read()
        except urllib.error.URLError:
            time.sleep(0.1)
    pytest.fail("the server does not answer")


@pytest.mark.slow
def test_the_server_answers_as_the_page_asks(here):
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    for name in ("photo", "one", "two"):
        shutil.copy(here / "inbox" / "sea-200.jpg", here / f"{name}.jpg")
    assert main(shlex.split(ADAPTED)) == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    here_instead = lambda text: text.replace("8000", port)
    (words,) = commands_in(PAGE)
    program = [sys.executable, "-c", "import sys; from clipjax.cli.main import main; sys.exit(main())"]
    asked = [here_instead(line) for line in shell_lines(PAGE) if line.startswith("curl ")]
    with subprocess.Popen([*program, *map(here_instead, words)], env={**os.environ}) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}", server)
            answers = [json.loads(subprocess.check_output([*shlex.split(line), "-sS", "--fail"])) for line in asked]
        finally:
            server.send_signal(signal.SIGINT)
    one, several, embedded, health = answers
    assert len(one["results"][0]["classes"]) == 4
    assert [len(result["classes"]) for result in several["results"]] == [3, 3]
    assert len(embedded["results"][0]["embedding"]) == 16
    assert health["classes"] == ["street", "forest", "beach", "sea"]
    assert server.returncode == 130
