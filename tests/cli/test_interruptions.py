"""Real processes that are stopped by signals: what they leave behind, and how they go on."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from picture_folders import write_pictures

# every batch becomes a piece; each piece is announced, and after `pause` of them the program waits for its signal
PROGRAM = """
import signal, sys
from clipjax.classify import embedding_job
from clipjax.cli.main import main

pause, add = int(sys.argv.pop(1)), embedding_job.Pieces.add

def announced(self, kind, number, piece):
    add(self, kind, number, piece)
    print(number, flush=True)
    if number + 1 == pause:
        signal.pause()

embedding_job.SECONDS_PER_PIECE = -1.0
embedding_job.Pieces.add = announced
sys.exit(main())
"""


@pytest.fixture
def start(checkpoint, tmp_path):
    """A function that starts `clipjax embed` on 24 pictures, four at a time."""
    photos = write_pictures(tmp_path / "photos", per_class=8)

    def begin(pause=0, output="e.npz"):
        arguments = ["embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / output, "--batch-size", 4]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(pause), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return begin


def stop(process, number, after):
    """Send a signal when a piece has been announced, and return what the process said."""
    for _ in range(after):
        process.stdout.readline()
    process.send_signal(number)
    return process.communicate()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_stopped_run_says_how_to_go_on_and_does(number, status, start, tmp_path):
    process = start(pause=2)
    _, err = stop(process, number, after=2)
    assert process.returncode == status
    assert err == "clipjax: interrupted; run the same command again to go on from here\n"
    assert not (tmp_path / "e.npz").exists()
    pieces = sorted(path.name for path in (tmp_path / "e.npz.parts").iterdir())
    assert pieces == ["images-000000.npz", "images-000001.npz", "job.json"]
    resumed = start()
    out, err = resumed.communicate()
    assert resumed.returncode == 0
    assert "8 images are done already" in err
    assert out.split() == ["2", "3", "4", "5"]
    with np.load(tmp_path / "e.npz") as found:
        assert len(found["image_ids"]) == len(found["image_embeddings"]) == 24
    assert not (tmp_path / "e.npz.parts").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_ctrl_c_while_a_checkpoint_is_written_leaves_nothing(checkpoint, tmp_path):
    program = (
        "import signal, sys; from clipjax.weights import save; from clipjax.cli.main import main; "
        "save.write_safetensors = lambda path, *rest: (path.write_text('half'), signal.raise_signal(signal.SIGINT)); "
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "convert", str(checkpoint), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "clipjax: interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_run_killed_at_random_moments_ends_with_the_same_bits(start, tmp_path):
    whole = start(output="whole.npz")
    whole.communicate()
    assert whole.returncode == 0
    random = np.random.default_rng(0)
    for _ in range(4):
        process = start()
        killer = threading.Timer(random.uniform(0.5, 6.0), os.kill, (process.pid, signal.SIGKILL))
        killer.start()
        process.communicate()
        killer.cancel()
        assert process.returncode in (0, -signal.SIGKILL)
        if process.returncode == 0 or (tmp_path / "e.npz").exists():
            break  # a kill between the last rename and the end of the process leaves a whole file
    else:
        last = start()
        _, err = last.communicate()
        assert last.returncode == 0, err
    assert (tmp_path / "e.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3, 5])
def test_run_killed_after_a_piece_ends_with_the_same_bits(after, start, tmp_path):
    start(output="whole.npz").communicate()
    stop(start(), signal.SIGKILL, after)
    start().communicate()
    assert (tmp_path / "e.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
