import json
from pathlib import Path

import jax
import pytest
from picture_folders import write_pictures

from clipjax.weights.load import load
from clipjax.weights.save import save

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

TINY = {
    "architecture.image_size": 16, "architecture.patch_size": 8, "architecture.width": 16,
    "architecture.layers": 1, "architecture.heads": 1, "architecture.text_width": 16,
    "architecture.text_layers": 1, "architecture.text_heads": 1, "architecture.embed_dim": 8, "batch_size": 16,
}  # fmt: skip


@pytest.fixture
def train(clipjax, tmp_path):
    """A function that runs a configuration in tmp_path/run."""

    def run(config, *flags, workdir=tmp_path / "run"):
        return clipjax("train", f"--config={CONFIGS / config}", f"--workdir={workdir}", *flags)

    return run


def tiny(steps=4):
    sizes = [f"--config.data.{name}={value}" for name, value in TINY.items()]
    return [*sizes, f"--config.steps={steps}", "--config.run.checkpoint_every=2", "--config.run.log_every=2"]


def test_pretraining_ends_in_a_checkpoint_with_its_tokenizer(train, tmp_path):
    done = train("pretrain.py:glyphs", *tiny())
    assert done.status == 0, done.err
    model, params = load(tmp_path / "run" / "model")
    model.check_params(params)
    assert (tmp_path / "run" / "model" / "merges.txt").is_file()
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_pretraining_from_folders_takes_class_names_as_captions(workers, train, tmp_path):
    write_pictures(tmp_path / "pictures", seed=1, per_class=4)
    source = {"images": str(tmp_path / "pictures"), "rows": 8, "template": ["a {} thing"]}
    config = tmp_path / "mine.py"
    config.write_text(
        "import runpy\n"
        "def get_config():\n"
        f"    config = runpy.run_path({str(CONFIGS / 'pretrain.py')!r})['get_config']('images')\n"
        f"    config.data.sources = ({source!r}, {source!r})\n"
        "    return config\n"
    )
    flags = [flag for flag in tiny(2) if "batch_size" not in flag]
    done = train(config, *flags, f"--config.run.workers={workers}")
    assert done.status == 0, done.err


def test_finetuning_from_a_configuration(train, checkpoint, tmp_path):
    write_pictures(tmp_path / "pictures", seed=1, per_class=4)
    flags = [f"--config.problem.weights={checkpoint}", f"--config.problem.images={tmp_path / 'pictures'}"]
    done = train("finetune.py", *flags, "--config.epochs=1.0", "--config.batch_size=4", "--config.optimizer.lr=1e-5")
    assert done.status == 0, done.err
    assert (tmp_path / "run" / "model" / "classifier.json").is_file()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--config.stepz=1"], "unknown setting stepz; did you mean 'steps'"),
        (["--config.optimizer.clip_nrom=1"], "unknown setting optimizer.clip_nrom; did you mean 'clip_norm'"),
        (["--config.run.log_every=often"], "often"),
        (["--config.optimizer.ema=2"], "optimizer.ema is 2"),
        (["--config.run.fsdp=3"], "fsdp=3 does not divide"),
        (["--config.run.workers=-1"], "workers=-1; give the number"),
        (["--config.data.batch_size=3"], "does not divide over"),
        (["--nonsense=1"], "nonsense"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(train, flags, complaint):
    done = train("pretrain.py:glyphs", *tiny(), *flags)
    assert done.status == 2
    assert complaint in done.err
    assert done.err.count("\n") == 1


def test_workdir_of_another_configuration_is_refused(train):
    assert train("pretrain.py:glyphs", *tiny(2)).status == 0
    refused = train("pretrain.py:glyphs", *tiny(2), "--config.optimizer.lr=0.5")
    assert (refused.status, "holds another run" in refused.err) == (2, True)


def test_settings_that_a_configuration_does_not_list_can_be_set(train, tmp_path):
    flags = ["--config.optimizer.ema=0.9", "--config.run.keep=1", "--config.chunk=8", "--config.data.skip_bad=true"]
    done = train("pretrain.py:glyphs", *tiny(2), *flags)
    assert done.status == 0, done.err
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (config["optimizer"]["ema"], config["chunk"]) == (0.9, 8)


def test_workdir_of_other_starting_weights_is_refused(train, checkpoint, tmp_path):
    write_pictures(tmp_path / "pictures", seed=1, per_class=4)
    source = {"images": str(tmp_path / "pictures"), "rows": 8, "template": ["a {} thing"]}
    other = tmp_path / "other"
    model, params = load(checkpoint)
    save(other, model, jax.tree.map(lambda x: 2 * x, params))
    flags = [f"--config.data.sources=[{source!r}]", "--config.steps=2", "--config.data.caption_length=8"]
    run = lambda weights: train("pretrain.py:images", *flags, f"--config.data.weights={weights}")
    done = run(checkpoint)
    assert done.status == 0, done.err
    refused = run(other)
    assert (refused.status, "weights was" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [("def get_config(:\n", "SyntaxError"), ("import nonesuch\n", "nonesuch"), ("x = 1\n", "no get_config")],
)
def test_a_configuration_that_does_not_run_is_one_line(train, complains, tmp_path, program, complaint):
    (tmp_path / "mine.py").write_text(program)
    complains(train(tmp_path / "mine.py"), "mine.py", complaint)


def test_missing_configuration_is_named(train, tmp_path):
    done = train(tmp_path / "none.py")
    assert (done.status, "none.py" in done.err) == (2, True)
