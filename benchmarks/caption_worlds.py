"""The two worlds of `benchmarks.captioning`: photographs with captions, and drawn scenes with questions.

Each says what its language model reads, what is learned about which images, and what is asked about others.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import clipjax
from benchmarks.needs import DATA, require
from clipjax.data.captions import captions_for, read_captions
from clipjax.data.glyph_captions import captions
from clipjax.data.glyph_dice import dice_for
from clipjax.data.glyph_questions import Question, sample_questions
from clipjax.data.glyphs import draw
from clipjax.data.opening import open_source
from clipjax.data.source import ImageSource, memory_source
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import LanguageConfig
from clipjax.weights.embedded import EMBEDDED

CAPTIONS_OF_A_SCENE = 3
TRAIN_WORLD, TEST_WORLD = 101, 202


@dataclass(frozen=True)
class Sizes:
    """How much of everything. `text` and `document` are lengths in tokens, `longest` bounds what is written."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    text: int
    document: int
    longest: int
    language_steps: int
    map_steps: int
    generator_steps: int
    images: int
    tests: int

    def language(self, tokenizer: Tokenizer, visual_tokens: int) -> LanguageConfig:
        """Describe a language model that holds documents, and an image with a text."""
        context = max(self.document, visual_tokens + 1 + self.text + self.longest)
        start, end = tokenizer.start_id, tokenizer.end_id
        sizes = (tokenizer.vocab_size, context, self.width, self.layers, self.heads, 4 * self.width)
        return LanguageConfig(*sizes, bos_token_id=start, eos_token_id=end)


SIZES = {
    "captions": Sizes(4096, 192, 3, 3, 28, 96, 24, 1500, 600, 600, 1000, 1000),
    "questions": Sizes(900, 128, 3, 4, 24, 64, 8, 1000, 1500, 600, 6000, 1500),
    "captions-tiny": Sizes(1024, 64, 2, 2, 28, 64, 20, 30, 20, 20, 96, 64),
    "questions-tiny": Sizes(700, 64, 2, 2, 24, 48, 8, 30, 30, 20, 128, 64),
}


@dataclass(frozen=True, eq=False)
class World:
    """Images with what is known about them. `texts` are the training images' captions, for the language model and h.

    `read` are captions of other images that the language model also reads, `unread` those it is measured on, and
    `test_texts` those of the test images. Where there are no questions, the captions themselves are learned.
    """

    model: CLIP
    params: Params
    tokenizer: Tokenizer
    train: ImageSource
    test: ImageSource
    texts: list[tuple[str, ...]]
    read: list[tuple[str, ...]]
    unread: list[tuple[str, ...]]
    test_texts: list[tuple[str, ...]]
    train_questions: Sequence[Question] = ()
    test_questions: Sequence[Question] = ()


def photographs(sizes: Sizes) -> World:
    """Open Flickr8k: 1,000 images to learn from, 1,000 that neither CLIP nor the language model knows anything of."""
    require("testbed")
    tar, folder = DATA / "data/images/flickr8k.tar", DATA / "data/texts/captions"
    flickr = read_captions(folder / "flickr8k_captions_all40455.csv")
    coco = read_captions(folder / "coco_captions_val2017_full.json")
    train = open_source(tar, where={"testbed": "pretrain"})
    test = open_source(tar, where={"testbed": "heldout-test"})
    held_out = {Path(name).name for name in test.ids}
    unread = [texts for name, texts in flickr.items() if name in held_out]
    if len(unread) != len(test):
        raise ValueError(f"{len(test)} held-out images but captions of {len(unread)}")
    train, test = train.select(np.arange(sizes.images)), test.select(np.arange(sizes.tests))
    mine = {Path(name).name for name in train.ids}
    others = [texts for name, texts in flickr.items() if name not in held_out and name not in mine]
    model, params = clipjax.load(DATA / "testbed")
    return World(
        model,
        params,
        clipjax.load_tokenizer(DATA / "testbed"),
        train,
        test,
        captions_of(train, flickr),
        [*others, *coco.values()],
        unread,
        captions_of(test, flickr),
    )


def captions_of(source: ImageSource, captions: dict[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """List the captions of each image."""
    texts, owner = captions_for(source, captions)
    found: list[list[str]] = [[] for _ in range(len(source))]
    for text, image in zip(texts, owner):
        found[image].append(text)
    return [tuple(one) for one in found]


def drawn_scenes(sizes: Sizes) -> World:
    """Draw scenes of two worlds, one to learn from and one to be asked about, with one question each."""
    train, test = sample_questions(sizes.images, TRAIN_WORLD), sample_questions(sizes.tests, TEST_WORLD)
    model, params = clipjax.load(EMBEDDED)
    unread = [_scene_captions(question.position, TEST_WORLD) for question in test]
    return World(
        model,
        params,
        clipjax.load_tokenizer(EMBEDDED),
        memory_source([_png(question) for question in train], name="scenes to learn from"),
        memory_source([_png(question) for question in test], name="scenes to ask about"),
        [_scene_captions(question.position, TRAIN_WORLD) for question in train],
        [],
        unread,
        unread,
        train,
        test,
    )


def _scene_captions(position: int, world: int) -> tuple[str, ...]:
    scene = draw(position, world)
    return tuple(captions(scene, dice_for(world, position, 10 + k).generator) for k in range(CAPTIONS_OF_A_SCENE))


def _png(question: Question) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(question.image).save(file, "png")
        return file.getvalue()
