"""The page on serving: its server is started, asked by its curl commands, and stopped."""

import json
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from pages import commands_in, shell_lines

from clipjax.cli.main import main

PAGE, ADDRESS = "docs/serving.md", "http://127.0.0.1:8000"
ADAPTED = "adapt --method zero_shot --weights ViT-B-32.pt --images photos/ --classes classes.txt -o run"


@pytest.mark.slow
def test_the_server_answers_as_the_page_asks(here):
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    for name in ("photo", "one", "two"):
        shutil.copy(here / "inbox" / "sea-200.jpg", here / f"{name}.jpg")
    assert main(shlex.split(ADAPTED)) == 0
    (words,) = commands_in(PAGE)
    asked = [line for line in shell_lines(PAGE) if line.startswith("curl ")]
    assert all(ADDRESS in line for line in asked)
    program = [sys.executable, "-c", "import sys; from clipjax.cli.main import main; sys.exit(main())"]
    # what is said last holds: any port that is free
    with subprocess.Popen([*program, *words, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True) as server:
        try:
            address = json.loads(server.stdout.readline())["address"]
            answers = [
                json.loads(subprocess.check_output([*shlex.split(line.replace(ADDRESS, address)), "-sS", "--fail"]))
                for line in asked
            ]
        finally:
            server.send_signal(signal.SIGINT)
    one, several, embedded, health = answers
    assert len(one["results"][0]["classes"]) == 4
    assert [len(result["classes"]) for result in several["results"]] == [3, 3]
    assert len(embedded["results"][0]["embedding"]) == 16
    assert health["classes"] == ["street", "forest", "beach", "sea"]
    assert server.returncode == 130
