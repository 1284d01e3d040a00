"""What leaves clipjax: directories whose own cards are followed to the letter, and a program that needs no clipjax."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from safetensors.numpy import load_file
from small_models import RESNET, assert_same_params, small_clip

from clipjax.classify.arrays import score_pixels
from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.export import Facts, export_directory, export_stablehlo
from clipjax.classify.export.card import model_card
from clipjax.classify.export.standalone import load as load_artefact
from clipjax.classify.export.standalone import pixels_of
from clipjax.classify.heads import HEADS, Conditioned, Contexts, FeatureAdapter, ImageContexts, KeyValueCache, joined
from clipjax.errors import CheckpointError
from clipjax.inputs.image import crop_uint8
from clipjax.methods.registry import METHODS
from clipjax.models.config import TextConfig
from clipjax.weights.load import load

TEXT = TextConfig(49408, 16, width=24, layers=2, heads=3, mlp_width=40, bos_token_id=49406, eos_token_id=49407)
NAMES = ("cat", "dog", "a `fish`")
UNFOLDED = sorted(HEADS.keys() - {"contexts"})


def classifier_of(seed=0, *, features="embedding", bias=False, **clip):
    model, params = small_clip(text=TEXT, **clip)
    model = model.replace(config=dataclasses.replace(model.config, preprocessing="transformers"))
    vision = model.config.vision
    dim = vision.width if features == "pooled" else model.config.embed_dim
    random = np.random.default_rng(seed)
    weights = jnp.asarray(random.normal(size=(3, dim)), jnp.float32)
    shift = jnp.asarray(random.normal(size=3), jnp.float32) if bias else None
    return Classifier(model, params | {"logit_scale": jnp.float32(2.0)}, NAMES, weights, {}, shift, features=features)


def with_prompts(classifier):
    vision = classifier.model.config.vision
    prompts = np.random.default_rng(5).normal(size=(vision.layers, 2, vision.width))
    return dataclasses.replace(classifier, visual_prompts=jnp.asarray(prompts, jnp.float32))


def heads():
    """One head of each kind, with numbers that matter, for `classifier_of`."""
    width, dim, random = TEXT.width, classifier_of().model.config.embed_dim, np.random.default_rng(7)
    drawn = lambda *shape: jnp.asarray(random.normal(size=shape) / shape[0], jnp.float32)
    generator = {"w1": drawn(dim, 4), "b1": drawn(4), "w2": drawn(4, dim), "b2": drawn(dim)}
    head = {"w1": drawn(2 * dim, 4), "w2": drawn(4, dim), "alpha": jnp.float32(1.0)}
    tokens = jnp.zeros((3, 16), jnp.int32).at[:, 0].set(49406).at[:, 3].set(jnp.arange(5, 8)).at[:, 4].set(49407)
    shifts = {"w1": drawn(dim, 4), "b1": drawn(4), "w2": drawn(4, width), "b2": drawn(width)}
    return {
        "conditioned": Conditioned(joined(generator=generator, head=head)),
        "feature_adapter": FeatureAdapter({"w1": drawn(dim, 3), "w2": drawn(3, dim)}, ratio=0.5),
        "key_value_cache": KeyValueCache({"keys": drawn(6, dim), "labels": jnp.arange(6) % 3}),
        "contexts": Contexts({"contexts": drawn(2, width)}),
        "image_contexts": ImageContexts({"contexts": drawn(2, width), "tokens": tokens, **shifts}),
    }


def with_head(kind):
    return dataclasses.replace(classifier_of(), head=heads()[kind])


def both(features="pooled"):
    return Ensemble((classifier_of(1, features=features, bias=True), classifier_of(2, features=features, bias=True)))


@pytest.fixture(scope="module")
def tokenizer():
    from clipjax.inputs.tokenizer import openai_tokenizer

    return dataclasses.replace(openai_tokenizer(), context_length=16)


@pytest.fixture
def photo(tmp_path):
    """A picture that is not square, in tmp_path/photo.jpg."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 27, 3)).astype(np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).resize((61, 90)).save(path)
    return path


def scores_of(classifier, photo):
    config = classifier.model.config
    return np.asarray(
        score_pixels(classifier, crop_uint8(Image.open(photo), config.image_size, config.preprocessing)[None])
    )


def usage_in(folder, language="python"):
    """The code of a card, as its reader copies it."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return code


@pytest.mark.parametrize("format", ["huggingface", "openclip"])
def test_an_exported_directory_is_the_same_checkpoint(format, tokenizer, tmp_path):
    classifier = classifier_of()
    export_directory(tmp_path / "out", classifier, tokenizer, format, Facts())
    assert_same_params(load(tmp_path / "out")[1], classifier.params)
    assert json.loads((tmp_path / "out/classes.json").read_text()) == list(NAMES)


def test_an_ensemble_becomes_a_directory_for_each_model(tokenizer, tmp_path):
    ensemble = both()
    export_directory(tmp_path / "out", ensemble, tokenizer, "huggingface", Facts())
    for number, member in enumerate(ensemble.members, 1):
        assert_same_params(load(tmp_path / f"out/model-{number}")[1], member.params)


@dataclasses.dataclass(frozen=True, eq=False)
class Other(Classifier):
    """A kind that a checkpoint does not know."""


def other():
    return Other(**vars(classifier_of()))


@pytest.mark.parametrize("format", ["huggingface", "openclip"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: with_prompts(classifier_of()), "has visual prompts, for which the architecture"),
        (lambda: Ensemble((classifier_of(), with_prompts(classifier_of()))), "has visual prompts"),
        (other, "a Other is no CLIP with one vector for each class"),
        *((lambda kind=kind: with_head(kind), "a learned head ") for kind in UNFOLDED),
        (lambda: Ensemble((classifier_of(), classifier_of(features="pooled"))), "read different features"),
        (lambda: classifier_of(vision=RESNET, features="embedding"), "no CLIP with a ResNet"),
    ],
    ids=[
        "prompts",
        "prompts in a member",
        "another kind",
        *UNFOLDED,
        "two kinds of features",
        "resnet",
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_the_way_out(make, reason, format, tokenizer, tmp_path):
    classifier = make()
    if reason == "no CLIP with a ResNet" and format == "openclip":
        export_directory(tmp_path / "out", classifier, tokenizer, format, Facts())
        return
    with pytest.raises(CheckpointError, match=f"{reason}.*stablehlo"):
        export_directory(tmp_path / "out", classifier, tokenizer, format, Facts())
    assert not list(tmp_path.iterdir())


def test_learned_contexts_are_folded_into_class_weights(tokenizer, photo, tmp_path):
    classifier = with_head("contexts")
    export_directory(tmp_path / "out", classifier, tokenizer, "huggingface", Facts())
    assert_allclose(load_file(tmp_path / "out/classifier.safetensors")["weights"], classifier.class_weights)
    plain = dataclasses.replace(classifier, head=None)
    assert_allclose(scores_of(plain, photo), scores_of(classifier, photo), rtol=1e-6)


def test_the_page_says_of_every_method_what_it_becomes():
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    assert [method for method in METHODS if f"`{method}`" not in page] == []


BLOCKED = "import sys\nsys.modules['clipjax'] = sys.modules['torch'] = sys.modules['flax'] = None\n"


def run_elsewhere(folder, program, *arguments):
    """Run Python out of reach of the source tree, with machine code that is quickly compiled."""
    env = {"XLA_FLAGS": os.environ["XLA_FLAGS"]}
    command = [sys.executable, *(["-c", program] if "\n" in program else [program]), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ensemble((with_prompts(classifier_of()), classifier_of(1, features="pooled", bias=True))),
        lambda: with_head("conditioned"),
    ],
    ids=["ensemble with prompts", "aape"],
)
def test_the_program_gives_the_same_scores_where_clipjax_cannot_be_imported(make, photo, tmp_path):
    classifier = make()
    export_stablehlo(tmp_path / "out", classifier, Facts())
    usage = usage_in(tmp_path / "out").replace("photo.jpg", str(photo))
    program = BLOCKED + "sys.path.insert(0, '.')\n" + usage + "print(scores.tolist())\n"
    best, scores = run_elsewhere(tmp_path / "out", program).splitlines()
    wanted = scores_of(classifier, photo)
    assert_allclose(json.loads(scores), wanted, rtol=1e-5, atol=1e-5)
    assert best == NAMES[int(wanted[0].argmax())]


@pytest.mark.parametrize("kind", ["conditioned", "key_value_cache", "image_contexts"])
def test_the_program_of_a_learned_head_takes_any_number_of_images(kind, photo, tmp_path):
    classifier = with_head(kind)
    export_stablehlo(tmp_path / "out", classifier, Facts())
    classify, settings = load_artefact(tmp_path / "out")
    found = classify(np.stack([pixels_of(photo, settings)] * 3))
    without = scores_of(dataclasses.replace(classifier, head=None), photo)
    assert_allclose(found[2:], scores_of(classifier, photo), rtol=1e-5, atol=1e-5)
    assert not np.allclose(found[2:], without, atol=1e-2)


def test_the_program_of_a_resnet_takes_any_number_of_images(photo, tmp_path):
    classifier = classifier_of(vision=RESNET, bias=True)
    export_stablehlo(tmp_path / "out", classifier, Facts())
    classify, settings = load_artefact(tmp_path / "out")
    found = classify(np.stack([pixels_of(photo, settings)] * 3))[2:]
    # scores are sums of larger numbers, which three images round otherwise than one: what counts is the cosine's 1e-5
    assert_allclose(found, scores_of(classifier, photo), rtol=1e-5, atol=1e-5)


def test_the_artefact_s_own_script_prints_csv(photo, tmp_path):
    export_stablehlo(tmp_path / "out", classifier_of(), Facts())
    command = usage_in(tmp_path / "out", "bash").split()
    assert command[:2] == ["python", "predict.py"]
    header, row = run_elsewhere(tmp_path / "out", command[1], photo).splitlines()
    assert header == "image,class,probability"
    assert NAMES[int(scores_of(classifier_of(), photo).argmax())] in row


@pytest.mark.parametrize("rule", ["openai", "transformers"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_the_artefact_prepares_images_as_clipjax_does(rule, mode, tmp_path):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 24, 3)).astype(np.uint8))
    image = (
        Image.fromarray(np.arange(37 * 24, dtype=np.uint16).reshape(37, 24)) if mode == "I;16" else pixels.convert(mode)
    )
    image.save(tmp_path / "one.png")
    settings = {"image_size": 16, "preprocessing": rule}
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "one.png", settings), crop_uint8(Image.open(tmp_path / "one.png"), 16, rule)
    )


def test_a_card_says_what_is_not_known_and_keeps_names_harmless():
    card = model_card(Facts(), ["[click](http://x)\n# head", "a`b"], format="huggingface")
    assert "`[click](http://x) # head`, ``a`b``" in card
    assert "Not measured" in card and "not stated; find out" in card


def test_a_card_s_front_matter_is_sound_whatever_the_licence_is_called():
    card = model_card(Facts(license='x"\n---\nevil: true'), NAMES, format="stablehlo")
    assert card.split("\n---\n")[0].splitlines()[1:] == [
        "library_name: jax",
        "pipeline_tag: image-classification",
        'license: "x\\"\\n---\\nevil: true"',
        "tags:",
        "- clip",
        "- clipjax",
    ]


KINDS = {
    "embedding": classifier_of,
    "bias": lambda: classifier_of(bias=True),
    "pooled": lambda: classifier_of(features="pooled", bias=True),
    "both": both,
    "both on embeddings": lambda: both("embedding"),
}


def followed(folder, photo, monkeypatch):
    """Run a card's lines as they stand, beside a photo, and return what they computed."""
    photo.rename(folder / "photo.jpg")
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(usage_in(folder), names)
    (folder / "photo.jpg").rename(photo)
    return names["probabilities"].numpy()


def probabilities_of(classifier, photo):
    scores = np.asarray(scores_of(classifier, photo), np.float64)
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


@pytest.mark.torch
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_transformers_predicts_the_same_by_the_lines_of_the_card(make, photo, tokenizer, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    classifier = make()
    export_directory(tmp_path / "out", classifier, tokenizer, "huggingface", Facts())
    found = followed(tmp_path / "out", photo, monkeypatch)
    wanted = probabilities_of(classifier, photo)
    assert_allclose(found, wanted, atol=1e-5)
    assert capsys.readouterr().out.startswith(NAMES[int(wanted.argmax())])


@pytest.mark.torch
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_openclip_predicts_the_same_by_the_lines_of_the_card(make, photo, tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
    classifier = make()
    export_directory(tmp_path / "out", classifier, tokenizer, "openclip", Facts())
    # a square one, of which both rules cut out the same
    Image.open(photo).crop((0, 0, 60, 60)).save(photo)
    assert_allclose(followed(tmp_path / "out", photo, monkeypatch), probabilities_of(classifier, photo), atol=1e-5)
