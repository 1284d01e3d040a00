"""Whatever stands in a configuration file, loading succeeds or raises one of our own errors, quickly."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import random_params

from clipjax.errors import ClipjaxError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
from clipjax.weights.load import load
from clipjax.weights.save import save

MODEL = CLIP(
    CLIPConfig(
        ViTConfig(image_size=16, patch_size=8, width=64, layers=2, heads=1, mlp_width=64),
        TextConfig(vocab_size=60, context_length=8, width=64, layers=1, heads=1, mlp_width=64),
        embed_dim=32,
    )
)
FILES = {
    "huggingface": ("config.json", "preprocessor_config.json"),
    "openclip": ("open_clip_config.json",),
    "orbax": ("clipjax.json",),
}


def nested(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([0, -1, 2**62, 10**400, -(10**400), 1e308, [64] * 4, nested(200)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


NAMES = st.text(max_size=4) | st.sampled_from(["vision", "vision/x", "a" + "/a" * 2000, "layers", "__metadata__"])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    params = random_params(MODEL)
    for format in FILES:
        save(folder / format, MODEL, params, format)
    return folder


def paths(value, prefix=()):
    """Every place in a JSON document that can be replaced."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*prefix, key)
            yield from paths(item, (*prefix, key))


@pytest.mark.parametrize("format", FILES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_only_our_errors_escape_a_damaged_configuration(checkpoints, format, data):
    file = checkpoints / format / data.draw(st.sampled_from(FILES[format]))
    original = file.read_text()
    document = json.loads(original)
    try:
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.sampled_from(sorted(paths(document), key=str)))
            damaged = copy.deepcopy(document)
            node = damaged
            for key in place[:-1]:
                node = node[key]
            fate = data.draw(st.sampled_from(["gone", "renamed", "changed"]))
            value = node.pop(place[-1])
            if fate == "renamed":
                node[data.draw(NAMES)] = value
            elif fate == "changed":
                node[place[-1]] = data.draw(VALUES)
            document = damaged if damaged else document
        file.write_text(json.dumps(document))
        try:
            load(checkpoints / format)
        except ClipjaxError as error:
            assert "\n" not in str(error)
    finally:
        file.write_text(original)
