import jax
import pytest

from clipjax.weights.load import load


def test_format_configuration_and_parts_are_shown(checkpoint, clipjax):
    out = clipjax("inspect", checkpoint).out
    assert f"{checkpoint}: huggingface" in out
    assert " vision.patch_size" in out and " text.context_length" in out
    assert " vision/blocks" in out and "attention" not in out


def test_all_lists_every_parameter_with_its_shape(checkpoint, clipjax):
    out = clipjax("inspect", checkpoint, "--all").out
    params = load(checkpoint)[1]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert line.split()[1] == ("x".join(map(str, leaf.shape)) or "scalar")


def test_total_counts_every_number(checkpoint, clipjax):
    total = sum(leaf.size for leaf in jax.tree.leaves(load(checkpoint)[1]))
    assert f"{total:,}" in clipjax("inspect", checkpoint).out.splitlines()[-2]


def test_json_holds_all_of_it(checkpoint, clipjax):
    found = clipjax("inspect", checkpoint, "--json").json
    params = load(checkpoint)[1]
    assert found["format"] == "huggingface"
    assert found["config"]["text"]["context_length"] == 16
    assert len(found["parameters"]) == len(jax.tree.leaves(params))
    assert {"path": "logit_scale", "shape": [], "dtype": "float32", "count": 1} in found["parameters"]


@pytest.mark.parametrize("format", ["openclip", "orbax"])
def test_other_formats_are_recognised(format, checkpoint, tmp_path, clipjax):
    clipjax("convert", checkpoint, tmp_path / "new", "--format", format)
    assert clipjax("inspect", tmp_path / "new", "--json").json["format"] == format


def test_openai_archive_is_recognised(shared_data, clipjax):
    found = clipjax("inspect", shared_data / "golden/openai/rn_jit_fp16.pt", "--json").json
    assert (found["format"], found["config"]["vision"]["kind"]) == ("openai", "resnet")


def test_preset_stands_in_for_a_missing_configuration(clipjax, tmp_path):
    refused = clipjax("inspect", tmp_path / "none", "--preset", "ViT-Z/99")
    assert (refused.status, "no preset 'ViT-Z/99'" in refused.err) == (2, True)
