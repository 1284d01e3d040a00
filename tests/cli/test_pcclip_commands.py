"""PC-CLIP as a person runs it: difference texts, training by command and by configuration, a stop, a ranking."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from picture_folders import write_pictures

from clipjax.training.meter import Meter
from clipjax.weights.load import load

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICK = {"epochs": 2.0, "batch_size": 16, "optimizer.lr": 1e-3, "temperature": 0.1}


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures, and no texts yet."""
    write_pictures(tmp_path / "photos")
    return tmp_path


@pytest.fixture
def written(clipjax, folder):
    """A store of a sentence about each pair of pictures."""
    store = folder / "texts.jsonl"
    asked = [f"--config={CONFIGS / 'texts.py'}:differences-of-images", "--set", "pairs=500000"]
    done = clipjax("texts", "generate", *asked, "--set", f"images={folder / 'photos'}", "--store", store, "--json")
    assert done.json["answered"] == 66
    return store


def trained(clipjax, checkpoint, folder, preset, workdir, **settings):
    files = {"weights": checkpoint, "images": folder / "photos", "texts": folder / "texts.jsonl"}
    flags = [f"--config.problem.{name}={value}" for name, value in files.items()]
    flags += [f"--config.{name}={value}" for name, value in (QUICK | settings).items()]
    return clipjax("train", f"--config={CONFIGS / 'pcclip.py'}:{preset}", *flags, f"--workdir={folder / workdir}")


def test_what_adapt_makes_of_written_differences_ranks_a_folder(clipjax, checkpoint, folder, written):
    files = ("--weights", checkpoint, "--images", folder / "photos", "--texts", written, "-o", folder / "run")
    sets = [flag for name, value in QUICK.items() for flag in ("--set", f"{name}={value}")]
    done = clipjax("adapt", "--method", "pcclip", *files, *sets, "--set", "held_out=0.4")
    assert done.status == 0, done.err
    said = json.loads((folder / "run/model/classifier.json").read_text())["provenance"]
    assert said["images"] == 12 and 0 <= said["difference_accuracy"] <= 1
    asked = ("--images", folder / "photos", "--difference", "the first image is brighter, the second darker")
    before, after = (clipjax("rank", "--weights", at, *asked, "--json").json for at in (checkpoint, folder / "run"))
    score = lambda found: {place["id"]: place["score"] for place in found["ranking"]}
    assert score(before).keys() == score(after).keys() and len(score(after)) == 12
    assert score(before) != score(after)


def test_a_stopped_training_goes_on_to_the_bits_of_an_undisturbed_one(
    clipjax, checkpoint, folder, written, monkeypatch
):
    run = lambda workdir: trained(
        clipjax, checkpoint, folder, "practical", workdir,
        learning_rates="(1e-3,1e-2)", temperatures="(0.1,)", held_out=0.4, **{"run.log_every": 1},
    )  # fmt: skip
    done = run("undisturbed")
    assert done.status == 0, done.err
    reported, report = [], Meter.report

    def stopped(self, done, metrics):
        report(self, done, metrics)
        reported.append(done)
        if len(reported) == 5:  # of six: in the second of both settings
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Meter, "report", stopped)
    cut = run("stopped")
    assert cut.status == 75 and "start it again to go on" in cut.err
    assert not (folder / "stopped/model").exists()
    resumed = run("stopped")
    assert resumed.status == 0, resumed.err
    undisturbed, other = (load(folder / name / "model")[1] for name in ("undisturbed", "stopped"))
    for name in ("text", "text_projection"):
        for one, two in zip(*(jax.tree.leaves(params[name]) for params in (undisturbed, other)), strict=True):
            np.testing.assert_array_equal(one, two)
    lines = [(folder / name / "metrics.jsonl").read_text().splitlines() for name in ("undisturbed", "stopped")]
    losses = [[json.loads(line)["loss"] for line in one] for one in lines]
    assert losses[0] == losses[1] and len(reported) == len(losses[0])


def test_captions_alone_are_refused_with_what_to_write(clipjax, checkpoint, folder, complains):
    (folder / "captions.csv").write_text("image,caption\nred_panda/0.png,a panda\n")
    assert clipjax("texts", "import", folder / "captions.csv", "--store", folder / "texts.jsonl").status == 0
    refused = trained(clipjax, checkpoint, folder, "paper_code", "run")
    complains(refused, "hold no differences", "clipjax texts generate")
