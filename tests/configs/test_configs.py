import dataclasses
import runpy
from pathlib import Path

import pytest

from clipjax.cli.pretrain_files import PretrainFiles
from clipjax.cli.problem_config import problem_config
from clipjax.cli.problem_files import ProblemFiles
from clipjax.cli.quickstart import METHODS as QUICKSTART
from clipjax.cli.run_settings import RunSettings
from clipjax.data.glyph_captions import DIGIT_TEMPLATES
from clipjax.methods import METHODS, method_named
from clipjax.methods.pcclip import Config as PCCLIPConfig
from clipjax.methods.pretrain import Config as PretrainConfig
from clipjax.training.optimizers import Optimizer
from clipjax.training.settings import from_mapping

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALL = [("pretrain", name) for name in ("glyphs", "images", "vit_l14")]
ALL += [
    ("latteclip", name)
    for name in ("", "caltech101", "eurosat", "food101", "ucf101", "testbed_pacs_cartoon", "quickstart")
]
ALL += [("upl", name) for name in ("", "eurosat", "dtd", "testbed_eurosat")]
ALL += [("self_training", name) for name in ("", "testbed_eurosat", "testbed_pacs_cartoon")]
ALL += [("coft", name) for name in ("", "plus", "eurosat", "dtd_plus", "testbed_eurosat_plus", "quickstart")]
ALL += [("pcclip", name) for name in ("paper_code", "practical", "captions", "rewrites")]
ALL += [
    ("aape", name)
    for name in ("", "eurosat", "imagenet", "testbed_dtd", "testbed_caltech101", "head_V0", "mlp", "joint")
]
ALL += [
    ("few_shot", name)
    for name in ("descriptions", "tip_adapter", "tip_adapter_f", "clip_adapter", "coop", "kgcoop", "cocoop")
]
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


@pytest.mark.parametrize(
    ("preset", "lr", "temperature", "batch_size", "epochs", "images"),
    [
        ("paper_code", 1e-8, 1.0, 512, 20, 1000),
        ("practical", 1e-8, 1.0, 512, 20, 1000),
        ("captions", 1e-6, 0.1, 128, 50, None),
        ("rewrites", 1e-6, 0.1, 128, 20, 1000),
    ],
)
def test_pc_clip_s_presets_have_the_numbers_of_the_released_code(preset, lr, temperature, batch_size, epochs, images):
    values = runpy.run_path(str(CONFIGS / "pcclip.py"))["get_config"](preset).to_dict()
    assert values["problem"]["template"] == ("This is a photo of a {}",)
    config = from_mapping(PCCLIPConfig, {name: values[name] for name in values.keys() - {"method", "problem", "run"}})
    found = (config.optimizer.lr, config.temperature, config.batch_size, config.epochs, config.images)
    assert found == (lr, temperature, batch_size, epochs, images)
    adam = Optimizer("adam", lr=lr, schedule="exponential", decay_rate=0.9, b1=0.9, b2=0.999, eps=1e-8)
    assert config.optimizer == adam and adam.weight_decay == 0 and adam.clip_norm is None
    assert (config.seed, config.kind, config.swap, config.caption_weight, config.mix) == (0, "contrastive", False, 0, 1)
    assert config.learn_from == (preset if preset in ("captions", "rewrites") else "differences")
    assert config.storage == ("delta" if preset == "practical" else "plain")
    rates, temperatures = ((1e-8, 1e-7, 1e-6, 1e-5), (1.0, 0.5, 0.1)) if preset == "practical" else ((), ())
    assert (config.learning_rates, config.temperatures) == (rates, temperatures)


def test_unknown_argument_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="known are glyphs, images, vit_l14"):
        runpy.run_path(str(CONFIGS / "pretrain.py"))["get_config"]("imagenet")


@pytest.mark.parametrize("name", ["eurosatplus", "eurosat_", "_plus_plus"])
def test_a_name_that_is_nearly_that_of_coft_plus_is_refused(name):
    with pytest.raises(ValueError, match=f"no data set '{name}'"):
        runpy.run_path(str(CONFIGS / "coft.py"))["get_config"](name)


@pytest.mark.parametrize("method", ["latteclip", "coft"])
def test_the_quickstart_s_configuration_is_what_the_command_does(method):
    config = runpy.run_path(str(CONFIGS / f"{method}.py"))["get_config"]("quickstart").to_dict()
    assert config["problem"]["template"] == DIGIT_TEMPLATES
    for name, value in QUICKSTART[method].items():
        inside = value if isinstance(value, dict) else {"": value}
        found = config[name] if isinstance(value, dict) else {"": config[name]}
        assert inside.items() <= found.items(), name


@pytest.mark.parametrize("domain", ["testbed_eurosat", "testbed_pacs_cartoon"])
def test_all_methods_adapt_to_the_same_images_of_a_testbed_domain(domain):
    selected = set()
    for file in ("latteclip", "self_training", "upl", "coft"):
        problem = runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"](domain).problem
        selected.add((problem.where, problem.test_where, problem.template))
    assert len(selected) == 1


def test_a_problem_lists_all_that_it_can_have_and_flags_know_the_types():
    found = problem_config(template=("a {}",), shots=4)
    assert set(found) == {field.name for field in dataclasses.fields(ProblemFiles)}
    assert (found.template, found.shots, found.split, found.by_position) == (("a {}",), 4, None, False)
    assert (found.get_type("split"), found.get_type("shots_seed")) == (str, int)
    with pytest.raises(TypeError, match="has no image; it has weights, images"):
        problem_config(image="photos")
