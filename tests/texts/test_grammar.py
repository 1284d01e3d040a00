"""What is said of a picture is what was drawn in it."""

import io

import numpy as np
import pytest
from PIL import Image

from clipjax.errors import ConfigError, DataError
from clipjax.texts.differences import clean_difference
from clipjax.texts.generate import generate
from clipjax.texts.measured import COLOURS, common, measure
from clipjax.texts.question import Question
from clipjax.texts.store import TextStore
from clipjax.texts.writers.grammar import GrammarWriter

WRITER = GrammarWriter({"panda": ["a ringed tail", "red fur"]})


def plain(colour, size=(40, 30)):
    return Image.new("RGB", size, COLOURS[colour])


def stripes(across, period=8):
    position = np.arange(64) // (period // 2) % 2 * 255
    pixels = np.broadcast_to(position[:, None] if across == "rows" else position[None, :], (64, 64))
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")


def text_of(kind, pictures=None, given=(), subjects=("a.jpg",), sample=0):
    opened = None if pictures is None else lambda: pictures
    question = Question(kind, subjects, "?", given=given, pictures=opened, sample=sample)
    (answer,) = WRITER.answers([question])
    return answer.text


@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_picture_has_its_colour(colour):
    assert measure(plain(colour)).colours == (colour,)
    assert f"mainly {colour}, with smooth areas" in text_of("caption", [plain(colour)])


@pytest.mark.parametrize(("colour", "word"), [("black", "dark"), ("grey", "evenly lit"), ("white", "bright")])
def test_light_has_three_words(colour, word):
    assert f"is {word}," in text_of("caption", [plain(colour)])


@pytest.mark.parametrize(("colour", "word"), [("grey", "muted"), ("red", "vivid")])
def test_colours_are_muted_or_vivid(colour, word):
    assert f"in {word} colours" in text_of("caption", [plain(colour)])


@pytest.mark.parametrize(("across", "edges"), [("rows", "horizontal"), ("columns", "vertical")])
def test_edges_have_a_direction(across, edges):
    assert f"mostly {edges} edges" in text_of("caption", [stripes(across)])
    assert measure(stripes(across).rotate(90)).edges != edges


def test_two_halves_are_two_colours():
    image = plain("blue", (40, 40))
    image.paste(plain("orange", (40, 15)), (0, 0))
    assert measure(image).colours == ("blue", "orange")


def test_size_does_not_matter():
    big = stripes("rows", 16).resize((512, 512), Image.Resampling.NEAREST)
    assert text_of("caption", [big]) == text_of("caption", [big.resize((256, 256), Image.Resampling.NEAREST)])


def test_a_group_is_described_by_what_all_have():
    group = []
    for other in ("red", "yellow", "white", "purple"):
        image = plain("green", (40, 40))
        image.paste(plain(other, (40, 12)), (0, 0))
        group.append(image)
    assert common([measure(image) for image in group]).colours == ("green",)
    assert "mainly green," in text_of("group_caption", group)


def test_a_difference_names_both_sides():
    text = text_of("difference", [plain("white"), stripes("rows")], subjects=("a", "b"))
    assert "first image is brighter, mainly white with smooth areas, and shows less detail" in text
    assert clean_difference(text) == (text, None)


def test_a_difference_of_captions_holds_both():
    given = ("A dog runs on the grass .", "Two CDs on a table.")
    text = text_of("difference", given=given, subjects=("a", "b"))
    assert text == "The first image shows a dog runs on the grass, while the second image shows two CDs on a table."


def test_other_kinds():
    assert text_of("rewrite", given=("A dog.",)) == "This picture shows the following: a dog."
    assert text_of("class_description", subjects=("panda",), sample=3) == "panda, which has red fur."
    assert all(line.count("{}") == 1 for line in text_of("template").split("\n"))


def test_what_there_is_nothing_to_make_from_is_refused():
    for kind in ("caption", "class_description", "rewrite"):
        with pytest.raises(ConfigError, match="has nothing to make"):
            text_of(kind)


def test_an_unreadable_picture_fails_alone(tmp_path):
    def unreadable():
        raise DataError("b.jpg: cannot be decoded")

    store = TextStore(tmp_path / "texts", create=True)
    asked = [
        Question("caption", ("a",), "?", pictures=lambda: [plain("red")]),
        Question("caption", ("b",), "?", pictures=unreadable),
    ]
    outcome = generate(store, WRITER, asked)
    assert (outcome.answered, outcome.failed) == (1, 1)
    assert generate(store, WRITER, asked[:1]).known == 1


def test_the_same_picture_has_the_same_text_whatever_its_file():
    with io.BytesIO() as file:
        stripes("rows").save(file, "PNG")
        again = Image.open(io.BytesIO(file.getvalue()))
        assert text_of("caption", [again]) == text_of("caption", [stripes("rows")])


def test_what_is_known_of_images_is_said_in_place_of_what_is_measured():
    known = {"a": ["a red circle", "a blue ground"], "b": ["a red circle", "a green ground"], "c": []}
    writer = GrammarWriter(images=known)

    def written(kind, *subjects):
        pictures = [plain("white")] * (len(subjects) - (kind == "group_caption"))
        (answer,) = writer.answers([Question(kind, subjects, "?", pictures=lambda: pictures)])
        return answer.text

    assert written("caption", "a") == "A picture of a red circle and a blue ground."
    assert written("group_caption", "x", "a", "b") == "Pictures of a red circle."
    assert written("difference", "a", "b") == (
        "The first image shows a blue ground, while the second image shows a green ground."
    )
    assert "bright" in written("caption", "c") and "bright" in written("group_caption", "x", "a", "c")
    assert writer.decoding != GrammarWriter().decoding == {}
