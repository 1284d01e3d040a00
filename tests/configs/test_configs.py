import runpy
from pathlib import Path

import pytest

from clipjax.cli.pretrain_files import PretrainFiles
from clipjax.cli.problem_files import ProblemFiles
from clipjax.cli.run_settings import RunSettings
from clipjax.methods import METHODS, method_named
from clipjax.methods.pretrain import Config as PretrainConfig
from clipjax.training.settings import from_mapping

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALL = [("pretrain", name) for name in ("glyphs", "images", "vit_l14")]
ALL += [("latteclip", name) for name in ("", "caltech101", "eurosat", "food101", "ucf101", "testbed_pacs_cartoon")]
ALL += [("upl", name) for name in ("", "eurosat", "dtd", "testbed_eurosat")]
ALL += [("finetune", name) for name in ("", "eurosat", "dtd", "pacs")]


@pytest.mark.parametrize(("file", "argument"), ALL)
def test_every_setting_is_one_that_something_reads(file, argument):
    config = runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"](argument)
    if file != "pretrain":
        config.problem.weights, config.problem.images = "weights", "images"
    rest = config.to_dict()
    method = rest.pop("method")
    from_mapping(RunSettings, rest.pop("run"), "run.")
    if method == "pretrain":
        from_mapping(PretrainFiles, rest.pop("data"), "data.")
        from_mapping(PretrainConfig, rest)
    else:
        from_mapping(ProblemFiles, rest.pop("problem"), "problem.")
        from_mapping(method_named(method).Config, rest)
        assert method in METHODS


def test_unknown_argument_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="known are glyphs, images, vit_l14"):
        runpy.run_path(str(CONFIGS / "pretrain.py"))["get_config"]("imagenet")
