"""`clipjax serve` as a process of its own, and mistakes before there is one."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, checkpoint, pictures):
    from clipjax.cli.main import main

    run = tmp_path_factory.mktemp("serve") / "run"
    flags = ("--weights", checkpoint, "--images", pictures / "train", "-o", run)
    assert main(["adapt", "--method", "zero_shot", *map(str, flags)]) == 0
    return run


def test_a_server_answers_refuses_and_stops(adapted, pictures):
    program = "import sys; from clipjax.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", str(adapted), "--port", "0", "--batch-size", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--json"], **pipes, text=True, env={**os.environ}) as server:
        try:
            address = json.loads(server.stdout.readline())["address"]
            image = next((pictures / "test").rglob("*.png")).read_bytes()
            with urllib.request.urlopen(urllib.request.Request(f"{address}/classify", image), timeout=60) as answer:
                assert len(json.load(answer)["results"][0]["classes"]) == 3
            with pytest.raises(urllib.error.HTTPError, match="422"):
                urllib.request.urlopen(urllib.request.Request(f"{address}/classify", b"no image"), timeout=60)
        finally:
            server.send_signal(signal.SIGINT)
        rest = server.stderr.read()
    assert server.returncode == 130
    assert "the service has stopped" in rest and "Traceback" not in rest


def test_a_port_in_use_is_one_line(adapted, clipjax, complains):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        complains(clipjax("serve", adapted, "--port", taken.getsockname()[1]), "--port", "in use")


def test_other_mistakes_are_one_line(clipjax, complains, tmp_path):
    complains(clipjax("serve", tmp_path, "--port", "0"), "holds no classifier")
    complains(clipjax("serve", tmp_path, "--port", "99999"), "cannot be used")
    complains(clipjax("serve", tmp_path, "--host", "256.1.1.1"), "cannot be used")
    complains(clipjax("serve", tmp_path, "--max-waiting", "3"), "--max-waiting 3 is less than one request may have")
    complains(clipjax("serve", tmp_path, "--max-pixels", 10**9), "Pillow refuses more than")
