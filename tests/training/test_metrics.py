import importlib.util
import json
import logging
import math
import struct
import subprocess
import sys

import pytest

from clipjax.errors import ConfigError, OutputError
from clipjax.training.metrics import Entry, JsonLines, TensorBoard, log_line

VALUES = {"loss": 1.5, "learning_rate": 0.001, "skipped": 0.0, "step_seconds": 2.0}


def entry(step, stage="one", **values):
    return Entry(stage, step, 100, VALUES | values)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_entry_is_a_line_of_json(tmp_path):
    lines = JsonLines(tmp_path / "new" / "metrics.jsonl")
    lines(entry(1))
    lines(entry(2, loss=1.0))
    assert read(lines.path) == [
        {"stage": "one", "step": 1, **VALUES},
        {"stage": "one", "step": 2, **VALUES, "loss": 1.0},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_null(tmp_path, value):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines(entry(1, loss=value))
    assert read(lines.path)[0]["loss"] is None


def test_forgetting_drops_later_steps_of_that_stage_and_broken_lines(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    for one in (entry(5, "before"), entry(1), entry(2), entry(3)):
        lines(one)
    with lines.path.open("a") as file:
        file.write('{"stage": "one", "st')
    lines.forget("one", 2)
    assert [(line["stage"], line["step"]) for line in read(lines.path)] == [("before", 5), ("one", 1), ("one", 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_forgetting_without_a_file_makes_none(tmp_path):
    JsonLines(tmp_path / "metrics.jsonl").forget("one", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        JsonLines(tmp_path / "file" / "metrics.jsonl")(entry(1))


def test_the_log_shows_loss_rate_and_time_left(caplog):
    with caplog.at_level(logging.INFO):
        log_line(entry(40, rows_per_second=1234.0, wait_share=0.05, model_flop_utilisation=0.51, skipped=2.0))
    shown = caplog.messages[0]
    for part in (
        "one 40/100",
        "loss 1.5000",
        "1,234 rows/s",
        "waiting 5%",
        "51% of peak",
        "2:00 left",
        "2 steps skipped",
    ):
        assert part in shown


def test_an_entry_knows_the_time_left():
    assert entry(40).seconds_left == 120
    assert math.isnan(Entry("one", 1, 2, {}).seconds_left)


def scalars(folder):
    """Read (step, name, value) from the one file of events: records of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        place += 12 + length + 4
    return found


PROGRAM = """
import sys
from pathlib import Path
from clipjax.training.metrics import Entry, TensorBoard

values = {"loss": 1.5, "learning_rate": 0.001, "skipped": 0.0, "step_seconds": 2.0}
board = TensorBoard(Path(sys.argv[1]))
board(Entry("one", 1, 100, values))
board(Entry("one", 2, 100, values | {"loss": 1.0}))
"""


def test_tensorboard_gets_every_number_before_the_program_ends(tmp_path):
    pytest.importorskip("tensorboardX")
    subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "board"], check=True)
    wanted = [
        (step, f"one/{name}", value)
        for step, loss in ((1, 1.5), (2, 1.0))
        for name, value in (VALUES | {"loss": loss}).items()
    ]
    assert scalars(tmp_path / "board") == [(step, name, pytest.approx(value)) for step, name, value in wanted]


def test_tensorboard_without_its_library_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"clipjax\[tensorboard\]"):
        TensorBoard(tmp_path)
