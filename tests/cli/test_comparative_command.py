import csv
import io

import numpy as np
import pytest

from clipjax.classify.embed import embed_images, embed_texts
from clipjax.data.folder import open_folder
from clipjax.evaluation.comparative import comparative_prompting, mean_difference_distance, pairs_of_confusion
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.weights.load import load

NAMES = ("blue sky", "green tree", "red panda")
WRITTEN = [
    (2, 1, "The red panda looks red, while the green tree is green"),
    (0, 1, "The blue sky is plain, while the green tree has leaves"),
]


@pytest.fixture
def sentences(tmp_path):
    """A file of two sentences about the pictures' classes, whose names are not spelt as the folders are."""
    path = tmp_path / "pairs.csv"
    lines = [f'Red-Panda,green tree,"{WRITTEN[0][2]}"', f'blue_sky,green tree,"{WRITTEN[1][2]}"', ""]
    path.write_text("first,second,sentence\n" + "\n".join(lines))
    return path


@pytest.fixture
def comparative(clipjax, checkpoint, photos):
    """A function that corrects class weights and measures the pictures."""

    def run(*arguments, images=photos):
        return clipjax("comparative", "--weights", checkpoint, "--images", images, *arguments)

    return run


@pytest.fixture(scope="module")
def known(checkpoint):
    """A function that embeds a folder, and the embedded prompts and sentences."""
    model, params = load(checkpoint)
    tokenizer = openai_tokenizer()
    texts = embed_texts(model, params, tokenizer, [f"a photo of a {name}." for name in NAMES])
    differences = embed_texts(model, params, tokenizer, [text for *_, text in WRITTEN])
    weights = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    return lambda source: (embed_images(model, params, source)[0], source.labels), texts, weights, differences


def test_numbers_are_those_of_the_evaluation(comparative, sentences, photos, known):
    found = comparative("--sentences", sentences, "--json").json
    embedded, texts, weights, differences = known
    pairs = np.array([pair[:2] for pair in WRITTEN])
    measured = comparative_prompting(*embedded(open_folder(photos)), weights, pairs, differences)
    assert [(row["alpha"], row["top1"], row["subset"]) for row in found["sweep"]] == [
        pytest.approx((one.alpha, 100 * one.accuracy, 100 * one.subset)) for one in measured
    ]
    assert found["distance"] == pytest.approx(mean_difference_distance(texts, pairs, differences), abs=1e-5)
    assert (found["alpha"], found["alpha_from"], found["images"]) == (0.9, "fixed", 12)
    own = {row["alpha"]: row for row in found["sweep"]}
    assert (found["top1"], found["zero_shot_top1"]) == (own[0.9]["top1"], own[1.0]["top1"])
    assert found["sentences"] == [[NAMES[i], NAMES[j], text] for i, j, text in WRITTEN]


def test_the_table_tells_every_alpha_and_the_distance_once(comparative, sentences):
    found = comparative("--sentences", sentences, "--alpha", "0.25")
    assert found.status == 0 and "0.25" in found.out and "alpha 0.25 (fixed)" in found.err
    assert "2 sentences are " in found.err and "paper" not in found.err


def test_confusions_of_the_measured_images_are_listed_to_write_about_and_called_the_papers_protocol(
    comparative, photos, known, tmp_path
):
    listed = comparative("--pairs-from", "test", "--count", "2")
    rows = list(csv.reader(io.StringIO(listed.out)))
    embedded, _, weights, _ = known
    wanted = pairs_of_confusion(*embedded(open_folder(photos)), weights, 2)
    assert rows == [["first", "second", "sentence"], *([NAMES[i], NAMES[j], ""] for i, j in wanted)]
    others = [[NAMES[j], NAMES[i], "the other way round"] for i, j in wanted]
    path = tmp_path / "written.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*rows[:1], *([i, j, f"{i} is no {j}"] for i, j, _ in rows[1:]), *others])
    found = comparative("--pairs-from", "test", "--count", "1", "--sentences", path, "--json").json
    assert found["paper_protocol"] and [pair[:2] for pair in found["sentences"]] == [rows[1][:2]]
    assert "not zero-shot" in comparative("--pairs-from", "test", "--count", "1", "--sentences", path).err


def test_pairs_and_alpha_come_from_the_validation_images(comparative, pictures, known, sentences):
    parts = ("--val", "split=train", "--test", "split=test")
    embedded, _, weights, differences = known
    train, test = (embedded(open_folder(pictures).where(split=name)) for name in ("train", "test"))
    listed = comparative("--pairs-from", "val", "--json", *parts, images=pictures).json
    assert listed["pairs"] == [[NAMES[i], NAMES[j]] for i, j in pairs_of_confusion(*train, weights, 3)]
    found = comparative("--sentences", sentences, "--json", *parts, images=pictures).json
    pairs = np.array([pair[:2] for pair in WRITTEN])
    validated, measured = (comparative_prompting(*part, weights, pairs, differences) for part in (train, test))
    best = max(one.accuracy for one in validated)
    wanted = max(one.alpha for one in validated if one.accuracy == best)
    assert (found["alpha"], found["alpha_from"], found["images"]) == (wanted, "val", 9)
    assert found["top1"] == pytest.approx(next(100 * one.accuracy for one in measured if one.alpha == wanted))
    assert [row["validation_top1"] for row in found["sweep"]] == [100 * one.accuracy for one in validated]


def test_a_confusion_without_a_sentence_is_named(comparative, photos, known, complains, tmp_path):
    embedded, _, weights, _ = known
    ((i, j),) = pairs_of_confusion(*embedded(open_folder(photos)), weights, 1)
    (tmp_path / "other.csv").write_text(f"first,second,sentence\n{NAMES[j]},{NAMES[i]},x\n")
    refused = comparative("--pairs-from", "test", "--count", "1", "--sentences", tmp_path / "other.csv")
    complains(refused, f"no sentence about '{NAMES[i]},{NAMES[j]}'", "write one, or lower --count")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b,c\n", "begin with first,second,sentence"),
        ("first,second,sentence\n", "holds no sentence"),
        ("first,second,sentence\nred panda,green tree\n", "line 2 has 2 fields"),
        ("first,second,sentence\nred panda,green tree,one, two\n", "in quotes"),
        ("first,second,sentence\n\nred panda,fish,x\n", "line 3: 'fish' is none of the classes"),
        ("first,second,sentence\nred panda,Red_Panda,x\n", "line 2 compares 'red panda' with itself"),
        ("first,second,sentence\nred panda,green tree, \n", "has no sentence; write how 'red panda' looks"),
    ],
)
def test_a_file_that_holds_no_sentences_is_one_line(content, complaint, comparative, complains, tmp_path):
    (tmp_path / "bad.csv").write_text(content)
    complains(comparative("--sentences", tmp_path / "bad.csv"), tmp_path / "bad.csv", complaint)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give --sentences CSV"),
        (["--sentences", "none.csv"], "none.csv"),
        (["--pairs-from", "val"], "needs --val COLUMN=VALUE"),
        (["--pairs-from", "val", "--val", "split=train"], "--val needs --test"),
        (["--pairs-from", "val", "--val", "split=train", "--test", "split=train"], "12 images are in both"),
        (["--pairs-from", "test", "--test", "split=none"], "no image has split=none"),
        (["--pairs-from", "test", "--alpha", "1.5"], "'1.5' is not a number from 0 to 1"),
    ],
)
def test_a_mistake_is_one_line(arguments, complaint, comparative, pictures, complains):
    complains(comparative(*arguments, images=pictures), complaint)
