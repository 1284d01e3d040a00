"""The Python of the pages, run as it is written: each page from above to below, in one namespace.

`GIVEN` makes what a page takes for granted, and `MADE` says what comes of it. The page on adding a method has a test
of its own (tests/methods/test_adding_a_method.py), and so has the pipeline of diffusers
(tests/weights/test_text_encoder.py).
"""

import json

import numpy as np
import pytest
from pages import PAGES, blocks
from PIL import Image
from small_models import small_language_model

import clipjax
from clipjax.data.opening import open_source
from clipjax.models.config import LanguageConfig
from clipjax.texts.prompts import read_prompts
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore
from clipjax.weights.language_model import save_language_model

ELSEWHERE = {"docs/adding-a-method.md"}
IN_PIPELINES = "pipe.text_encoder"
SMALLER = {"steps=5000": "steps=2", "epochs=5": "epochs=1"}


def programs_in(page):
    return [program for program in blocks(page, "python") if IN_PIPELINES not in program]


def drawn(*shape):
    numbers = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    return numbers / np.linalg.norm(numbers, axis=-1, keepdims=True)


def for_jax(here):
    return {"images": np.zeros((4, 16, 16, 3), np.float32)}


def for_readme(here):
    return {"picture": Image.open(here / "inbox" / "sea-1.jpg")}


def for_captioning(here):
    config = LanguageConfig(
        49408, 64, width=32, layers=1, heads=2, mlp_width=48, bos_token_id=49406, eos_token_id=49407
    )
    save_language_model(here / "gpt2", *small_language_model(config))
    ids = open_source("photos").ids
    (here / "captions.json").write_text(json.dumps({name: [f"a picture called {name}"] for name in ids}))
    return {"tokens": np.ones((2, 3), np.int32), "embeddings": np.zeros((2, 3, 32), np.float32)}


def for_pcclip(here):
    labels = np.arange(30) % 4
    return {
        "images": drawn(30, 8), "labels": labels, "weights": drawn(4, 8), "class_texts": drawn(4, 8),
        "sentences": drawn(3, 8), "sentence": drawn(8), "anchors": drawn(5, 8), "at_night": drawn(8),
        "pairs": np.array([(0, 1), (2, 3), (1, 2)]), "table": np.eye(4, 3, dtype=bool),
        "brightness": np.arange(30.0), "scores": np.arange(30.0)[::-1],
    }  # fmt: skip


def for_texts(here):
    images = open_source("photos")
    classes = ["sea", "beach"]
    TextStore(here / "good.jsonl", create=True).append(
        [TextRecord("caption", (name,), f"a picture called {name}") for name in images.ids]
        + [TextRecord("class_description", (name,), f"what a {name} looks like") for name in classes]
        + [TextRecord("difference", images.ids[:2], "the first is called otherwise")]
    )
    model, params = clipjax.load("ViT-B-32.pt")
    problem = clipjax.make_problem(model, params, clipjax.load_tokenizer("ViT-B-32.pt"), classes, images)
    return {"problem": problem}


def for_training(here):
    (here / "photos").rename(here / "tiles")
    return {}


GIVEN = {
    "README.md": for_readme, "docs/jax.md": for_jax, "docs/captioning.md": for_captioning, "docs/texts.md": for_texts,
    "docs/methods/pcclip.md": for_pcclip, "docs/training.md": for_training,
}  # fmt: skip
MADE = {
    "README.md": lambda names, here: names["image"].shape == (1, 16) and (here / "vit-b-32-hf/config.json").is_file(),
    "docs/jax.md": lambda names, here: all((here / name).exists() for name in ("hf", "openclip", "out.pt", "orbax")),
    "docs/captioning.md": lambda names, here: names["logits"].shape == (2, 3, 49408),
    "docs/texts.md": lambda names, here: names["problem"].texts is names["texts"],
    "docs/methods/pcclip.md": lambda names, here: names["ranks"].shape == (30, 3),
    "docs/training.md": lambda names, here: (here / "adapted/classifier.json").is_file(),
}


def test_every_page_with_python_is_run():
    assert {page for page in PAGES if programs_in(page)} - ELSEWHERE == GIVEN.keys() == MADE.keys()


@pytest.mark.slow
@pytest.mark.parametrize("page", GIVEN)
def test_programs_work_in_their_order(page, here):
    names = GIVEN[page](here)
    for program in programs_in(page):
        for large, small in SMALLER.items():
            program = program.replace(large, small)
        exec(compile(program, f"<{page}>", "exec"), names)
    assert MADE[page](names, here)


def test_the_prompts_that_the_page_on_texts_shows_are_asked(tmp_path):
    (shown,) = blocks("docs/texts.md", "json")
    (tmp_path / "mine.json").write_text(shown)
    asked = read_prompts(tmp_path / "mine.json").ask("image-caption", "default")
    assert asked.text == "Name the bird in this field photo and the colours of its feathers."
