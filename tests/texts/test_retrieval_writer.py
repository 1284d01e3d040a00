"""The phrases nearest to an image are what is said of it, whatever else is asked, and nobody tells what it is."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipjax.data.captions import read_captions
from clipjax.data.opening import open_source
from clipjax.errors import ConfigError, DataError
from clipjax.texts.differences import clean_difference
from clipjax.texts.english import singular, with_article
from clipjax.texts.generate import generate
from clipjax.texts.phrases import mine_phrases, phrases_of
from clipjax.texts.prompts import read_prompts
from clipjax.texts.question import Question, key_of
from clipjax.texts.store import TextStore
from clipjax.texts.tasks import caption_questions, group_questions
from clipjax.texts.writers import retrieval
from clipjax.texts.writers.retrieval import RetrievalWriter

PHRASES = ("brown dog", "green grass", "owls", "slice of pizza", "orange cat", "aerial view", "wooden dog", "house")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def shows(*strengths):
    """Make a picture whose embedding leans to the phrases by these strengths, of at most 255."""
    pixels = np.zeros((1, len(PHRASES), 3), np.uint8)
    pixels[0, : len(strengths)] = np.array(strengths)[:, None]
    return Image.fromarray(pixels)


class Encoder:
    """Reads an embedding off the pixels and keeps the different pictures of each call."""

    def __init__(self):
        self.sizes, self.seen = [], []

    def __call__(self, images):
        rows = np.stack([np.asarray(image, np.float32)[0, :, 0] for image in images])
        self.sizes.append(len(images))
        self.seen += {image.tobytes() for image in images}
        return unit(rows)


def writer(encode=None, **options):
    options = {"count": 3, "commonness": 0, "batch_size": 4} | options
    return RetrievalWriter(PHRASES, np.eye(len(PHRASES), dtype=np.float32), encode or Encoder(), "t", 10, **options)


def ask(kind, pictures, subjects=("a",)):
    return Question(kind, subjects, "?", pictures=None if pictures is None else lambda: pictures)


def texts_of(questions, **options):
    return [answer.error or answer.text for answer in writer(**options).answers(questions)]


def text_of(kind, *pictures, **options):
    return texts_of([ask(kind, pictures)], **options)[0]


def test_a_caption_names_the_nearest_phrases():
    assert text_of("caption", shows(90, 80, 70)) == "A picture of a brown dog with green grass and owls."
    assert text_of("caption", shows(0, 0, 70, 80, 90)) == "A picture of an orange cat with a slice of pizza and owls."
    assert text_of("caption", shows(0, 90), count=1) == "A picture of green grass."


def test_no_two_phrases_share_a_word():
    text = text_of("caption", shows(90, 0, 60, 0, 0, 0, 80, 50))
    assert text == "A picture of a brown dog with owls and a house."


def test_no_two_phrases_say_the_same():
    embeddings = np.eye(len(PHRASES), dtype=np.float32)
    embeddings[1] = unit(embeddings[0] + 0.1 * embeddings[1])
    alike = RetrievalWriter(PHRASES, embeddings, Encoder(), "t", 10, count=2, commonness=0)
    (answer,) = alike.answers([ask("caption", [shows(200, 0, 90)])])
    assert answer.text == "A picture of a brown dog with owls."


def test_a_view_becomes_the_picture():
    assert text_of("caption", shows(0, 80, 0, 0, 0, 90, 0, 70)) == "An aerial view of green grass with a house."


def test_a_common_phrase_is_said_before_a_rare_one():
    image = shows(80, 0, 0, 0, 0, 0, 0, 90)
    assert text_of("caption", image, count=1) == "A picture of a house."
    assert text_of("caption", image, count=1, commonness=1) == "A picture of a brown dog."


def test_what_is_near_to_every_image_is_said_less():
    reference = unit(np.eye(8, dtype=np.float32)[[0] * 3])
    image = shows(90, 80)
    assert text_of("caption", image, count=1) == "A picture of a brown dog."
    assert text_of("caption", image, count=1, reference=reference) == "A picture of green grass."


def test_a_group_is_described_by_what_its_images_have_in_common():
    group = [shows(*(90 if n in (1, other) else 0 for n in range(8))) for other in (0, 2, 3, 4)]
    assert text_of("group_caption", *group, count=1) == "Pictures that all show green grass."


def test_one_odd_image_does_not_decide_for_the_group():
    group = [shows(0, 90)] * 3 + [shows(0, 0, 0, 0, 90)]
    assert text_of("group_caption", *group, count=1) == "Pictures that all show green grass."


def test_a_difference_names_what_the_other_lacks():
    text = text_of("difference", shows(90, 80), shows(0, 80, 90))
    assert text.startswith("The first image shows a brown dog, while the second image shows owls")
    assert clean_difference(text) == (text, None)


def test_a_difference_turns_round_with_its_images():
    images = shows(90, 80, 10), shows(0, 20, 80, 70)
    here, there = (re.split("shows |, while|\\.$", text_of("difference", *pair)) for pair in (images, images[::-1]))
    assert (here[1], here[3]) == (there[3], there[1])


def test_equal_images_have_no_difference():
    assert "no phrase tells the two images apart" in text_of("difference", shows(90), shows(90))


PICTURES = [shows(*row) for row in np.random.default_rng(0).integers(1, 255, (12, 8))]
ASKED = [
    *(ask("caption", [PICTURES[n]], (f"{n}",)) for n in range(12)),
    *(ask("group_caption", [PICTURES[m] for m in g], ("0", *map(str, g))) for g in [(1, 2, 3, 1), (4, 5, 6, 11)]),
    *(ask("difference", [PICTURES[n], PICTURES[n + 1]], (f"{n}", f"{n + 1}")) for n in range(6)),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(range(len(ASKED))), min_size=1), st.integers(1, 9))
def test_answers_do_not_depend_on_what_else_is_asked(chosen, batch_size):
    together = texts_of([ASKED[n] for n in chosen], batch_size=batch_size)
    assert together == [texts_of([ASKED[n]])[0] for n in chosen]


@pytest.mark.parametrize("asked", [ASKED, ASKED[::-1]])
def test_an_image_is_encoded_once_and_in_batches_of_one_size(asked):
    encode = Encoder()
    list(writer(encode, batch_size=5).answers(asked))
    assert len(encode.seen) == len(set(encode.seen)) == 12
    assert set(encode.sizes) == {5}


def test_an_image_that_is_known_is_not_opened_again():
    opened = []
    asked = [
        Question(q.kind, q.subjects, "?", pictures=lambda q=q: opened.extend(q.subjects) or q.pictures()) for q in ASKED
    ]
    list(writer().answers(asked))
    assert opened == [f"{n}" for n in range(12)]


def test_what_is_forgotten_is_encoded_again(monkeypatch):
    kept = texts_of(ASKED)
    monkeypatch.setattr(retrieval, "REMEMBERED", 2)
    encode = Encoder()
    assert texts_of(ASKED, encode=encode) == kept
    assert len(encode.seen) > 12


def test_pictures_without_ids_of_their_own_are_not_mixed_up():
    questions = [ask("group_caption", [shows(90), shows(80)]), ask("group_caption", [shows(0, 90), shows(0, 80)])]
    assert texts_of(questions, count=1) == [
        "Pictures that all show a brown dog.",
        "Pictures that all show green grass.",
    ]


def test_questions_are_taken_as_they_are_needed():
    taken = []
    endless = (taken.append(n) or ask("caption", [PICTURES[0]], (f"{n}",)) for n in itertools.count())
    answers = writer().answers(endless)
    assert next(answers).question.subjects == ("0",)
    assert len(taken) == 4


def test_an_unreadable_picture_fails_alone(tmp_path):
    def unreadable():
        raise DataError("b.jpg: cannot be decoded")

    asked = [ask("caption", [shows(90)]), Question("caption", ("b",), "?", pictures=unreadable)]
    asked += [ask("caption", [shows(9), shows(9)], ("c",)), ask("difference", [shows(9)], ("d", "e"))]
    outcome = generate(TextStore(tmp_path / "texts", create=True), writer(), asked)
    assert (outcome.answered, outcome.failed) == (1, 3)
    assert [text for text in texts_of(asked) if "cannot be decoded" in text] == ["b.jpg: cannot be decoded"]


@pytest.mark.parametrize("kind", ["class_description", "template", "rewrite", "caption"])
def test_what_there_is_nothing_to_make_from_is_refused(kind):
    pictures = [shows(90)] if kind != "caption" else None
    with pytest.raises(ConfigError, match="choose another writer"):
        texts_of([ask(kind, pictures)])


def test_embeddings_that_do_not_fit_are_refused():
    eye = np.eye(len(PHRASES), dtype=np.float32)
    with pytest.raises(ConfigError, match="embeddings of the phrases have the shape"):
        RetrievalWriter(PHRASES, eye[:3], Encoder(), "t", 10)
    with pytest.raises(ConfigError, match="not of unit length"):
        RetrievalWriter(PHRASES, 2 * eye, Encoder(), "t", 10)
    with pytest.raises(ConfigError, match="the encoder makes of the images have the shape"):
        texts_of([ASKED[0]], encode=lambda images: np.ones((len(images), 3)))
    with pytest.raises(ConfigError, match="from 1"):
        writer(count=0)


def test_another_clip_inventory_or_setting_asks_anew():
    eye = np.eye(8, dtype=np.float32)
    others = [
        writer(),
        writer(count=2),
        writer(commonness=1),
        writer(reference=eye),
        writer(reference=eye[:2]),
        RetrievalWriter(PHRASES, eye, Encoder(), "u", 10, commonness=0),
        RetrievalWriter(PHRASES, eye, Encoder(), "t", 20, commonness=0),
        RetrievalWriter(PHRASES[::-1], eye, Encoder(), "t", 10, commonness=0),
    ]
    assert len({key_of(ASKED[0], other) for other in others}) == len(others)
    assert key_of(ASKED[0], writer(batch_size=1)) == key_of(ASKED[0], writer())


@pytest.fixture(scope="module")
def testbed(shared_data):
    """A writer with a small CLIP and phrases of captions of other images, and the captions of images it never saw."""
    import clipjax
    from clipjax.classify.embed import embed_texts, encode_pixels
    from clipjax.inputs.image import crop_uint8

    folder = shared_data / "testbed"
    model, params = clipjax.load(folder)
    texts = shared_data / "data" / "texts" / "captions"
    captions = read_captions(texts / "flickr8k_captions_all40455.csv")
    images = open_source(shared_data / "data" / "images" / "flickr8k.tar").where(testbed="heldout-test")
    own = {image: captions.pop(image.rsplit("/", 1)[-1]) for image in images.ids}
    captions |= read_captions(texts / "coco_captions_val2017_full.json")
    phrases = mine_phrases(itertools.chain.from_iterable(captions.values()), most=1000)
    prompts = [f"a photo of {with_article(phrase)}" for phrase in phrases]
    embeddings = unit(embed_texts(model, params, clipjax.load_tokenizer(folder), prompts))
    size = model.config.image_size

    def encode(pictures):
        return unit(np.asarray(encode_pixels(model, params, np.stack([crop_uint8(p, size) for p in pictures]))))

    scale = float(np.exp(params["logit_scale"]))
    return RetrievalWriter(phrases, embeddings, encode, "testbed", scale), images, own


def words(text):
    return {singular(word) for phrase in phrases_of(text) for word in phrase.split()} - {"of", "and"}


def test_captions_name_what_people_saw_and_chance_does_not(testbed):
    writer, images, own = testbed
    images = images.select(range(0, len(images), 5))
    questions = caption_questions(images, read_prompts().ask("image-caption"))
    said = [words(answer.text) - {"picture"} for answer in writer.answers(questions)]
    seen = [set().union(*map(words, own[image])) for image in images.ids]
    share = lambda seen: np.mean([len(a & b) / len(a) for a, b in zip(said, seen)])
    chance = np.mean([share(seen[shift:] + seen[:shift]) for shift in range(1, 20)])
    assert share(seen) > 2 * chance


def test_groups_of_photographs_are_named_for_what_they_show(testbed, shared_data):
    # labels draw the groups; the writer gets pictures, and ids that name no class
    writer, *_ = testbed
    photos = open_source(shared_data / "data" / "images" / "pacs.tar").where(testbed="heldout-test")
    photos = photos.where(classname=["dog", "elephant", "giraffe", "horse"])
    names = np.array(photos.classnames)
    labels = np.unique(names, return_inverse=True)[1]
    questions = group_questions(photos, read_prompts().ask("group-caption", "caltech101"), labels)
    unnamed = [Question(question.kind, ("x",), "?", pictures=question.pictures) for question in questions]
    said = [words(answer.text) for answer in writer.answers(unnamed)]
    for name in set(names):
        named = np.array([name in text for text in said])
        assert named[names == name].mean() > named[names != name].mean() + 0.1
