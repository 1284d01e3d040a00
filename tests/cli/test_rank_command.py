import csv
import io
import os
import re
import shutil

import numpy as np
import pytest

from clipjax.classify.embed import embed_images, embed_texts
from clipjax.data.folder import open_folder
from clipjax.evaluation.ranking import difference_scores, kendall_tau
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.weights.load import load

SENTENCE = "the first image is red, the second blue"


@pytest.fixture
def rank(clipjax, checkpoint, photos):
    """A function that ranks the pictures by a sentence."""

    def run(*arguments, images=photos, sentence=SENTENCE):
        return clipjax("rank", "--weights", checkpoint, "--images", images, "--difference", sentence, *arguments)

    return run


def scores_of(checkpoint, folder, anchors=None):
    model, params = load(checkpoint)
    rows = [embed_images(model, params, open_folder(place))[0] for place in (folder, anchors) if place is not None]
    return difference_scores(rows[0], embed_texts(model, params, openai_tokenizer(), [SENTENCE])[0], *rows[1:])


def test_scores_are_those_of_the_evaluation_and_fall(rank, photos, checkpoint):
    found = list(csv.DictReader(io.StringIO(rank().out)))
    assert [row["rank"] for row in found] == [str(n) for n in range(1, 13)]
    wanted = dict(zip(open_folder(photos).ids, scores_of(checkpoint, photos)))
    assert {row["id"]: float(row["score"]) for row in found} == pytest.approx(wanted, abs=1e-5)
    falling = [float(row["score"]) for row in found]
    assert falling == sorted(falling, reverse=True)


def test_anchors_stand_in_for_the_other_images(rank, photos, pictures, checkpoint):
    found = rank("--anchors", pictures / "test", "--json").json
    wanted = dict(zip(open_folder(photos).ids, scores_of(checkpoint, photos, pictures / "test")))
    assert {one["id"]: one["score"] for one in found["ranking"]} == pytest.approx(wanted, abs=1e-5)


def test_a_page_shows_the_first_and_the_last_pictures(rank, tmp_path):
    page = tmp_path / "page.html"
    found = rank("-o", page, "--shown", "5", "--json")
    assert found.status == 0, found.err
    text, ranking = page.read_text(), [one["id"] for one in found.json["ranking"]]
    assert re.findall(r'alt="([^"]+)"', text) == [*ranking[:3], *ranking[-2:]]
    assert "7 images between these are not shown" in text and SENTENCE in text
    assert text.count("data:image/jpeg;base64,") == 5


def test_what_a_sentence_holds_is_text_on_the_page(rank, tmp_path):
    assert rank("-o", tmp_path / "page.html", sentence="the first is <b>").status == 0
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;" in text and "<b>" not in text
    assert len(re.findall("<img", text)) == 12


def test_tau_is_told_where_the_attribute_is_known(rank, photos, checkpoint):
    found = rank("--truth", "label", "--json")
    labels = open_folder(photos).labels
    assert found.json["kendall_tau"] == pytest.approx(kendall_tau(scores_of(checkpoint, photos), labels))
    assert "Kendall's tau with label" in found.err
    assert rank("--truth", "label").out.splitlines()[0] == "rank,id,score,label"


def test_where_all_images_are_equal_there_is_no_tau_and_that_is_said(rank, photos, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "copies" / name).mkdir(parents=True)
        shutil.copy(photos / "red_panda/0.png", tmp_path / "copies" / name)
    found = rank("--truth", "label", "--json", "-o", tmp_path / "page.html", images=tmp_path / "copies")
    assert found.json["kendall_tau"] is None and [one["score"] for one in found.json["ranking"]] == [0, 0]
    assert "there is none" in found.err and "there is none" in (tmp_path / "page.html").read_text()


def test_names_that_are_no_utf_8_are_written_on_the_page_all_the_same(rank, photos, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/ph\xff")
    shutil.copytree(photos, odd)
    assert rank("-o", tmp_path / "page.html", images=odd, sentence=os.fsdecode(b"the first is \xff")).status == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"/ph\udcff" in text and r"the first is \udcff" in text


def test_bad_images_are_left_out_when_that_is_asked_for(rank, broken_photos, tmp_path, complains):
    complains(rank("-o", tmp_path / "page.html", images=broken_photos), "green_tree/1.png", "--skip-bad")
    assert not (tmp_path / "page.html").exists()
    found = rank("--skip-bad", "--truth", "label", "-o", tmp_path / "page.html", "--json", images=broken_photos)
    assert (found.json["images"], len(found.json["skipped"])) == (10, 2)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--truth", "size"], ["no column 'size'", "classname"]),
        (["--truth", "classname"], ["'classname' holds no numbers"]),
        (["--anchors", "nowhere"], ["nowhere"]),
        (["--shown", "0"], ["'0' is not an integer of at least 1"]),
        (["-o", "{photos}"], ["{photos}"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(arguments, parts, rank, photos, complains, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    complains(
        rank(*(text.format(photos=photos) for text in arguments)), *(part.format(photos=photos) for part in parts)
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_that_exists_is_replaced_only_when_asked(rank, tmp_path, complains):
    page = tmp_path / "page.html"
    page.write_text("mine")
    complains(rank("-o", page), page, "--overwrite")
    assert page.read_text() == "mine"
    assert rank("-o", page, "--overwrite").status == 0 and SENTENCE in page.read_text()


# ---- an image, but otherwise ----


def likeness_to(checkpoint, folder, query, strength):
    """Cosines with a moved query, by id and without the query itself."""
    model, params = load(checkpoint)
    source = open_folder(folder)
    rows = embed_images(model, params, source)[0]
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    sentence = embed_texts(model, params, openai_tokenizer(), [SENTENCE])[0]
    own = source.ids.index(query)
    cosines = unit(rows) @ unit(unit(rows[own]) + strength * unit(sentence))
    return {name: cosine for name, cosine in zip(source.ids, cosines) if name != query}


@pytest.mark.parametrize("named", ["id", "path"])
def test_other_images_are_ordered_by_likeness_to_the_changed_one(named, rank, photos, checkpoint):
    query = "red_panda/1.png"
    found = rank("--like", query if named == "id" else photos / query, "--strength", "0.5", "--json").json
    scores = {one["id"]: one["score"] for one in found["ranking"]}
    assert scores == pytest.approx(likeness_to(checkpoint, photos, query, 0.5), abs=1e-5)
    assert list(scores.values()) == sorted(scores.values(), reverse=True) and query not in scores


def test_an_image_from_elsewhere_leaves_none_out_and_unmoved_finds_its_copy(rank, photos, tmp_path):
    shutil.copy(photos / "green_tree/2.png", tmp_path / "elsewhere.png")
    found = rank("--like", tmp_path / "elsewhere.png", "--strength", "0", "-o", tmp_path / "page.html", "--json").json
    assert found["images"] == 12 and found["ranking"][0]["id"] == "green_tree/2.png"
    assert found["ranking"][0]["score"] == pytest.approx(1, abs=1e-5)
    page = (tmp_path / "page.html").read_text()
    assert f"elsewhere.png, but: {SENTENCE}" in page and page.count("<img") == 1 + 12


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--like", "nowhere.png"], ["--like nowhere.png: neither an image of", "give an id, or a path"]),
        (["--like", "red_panda/0.png", "--anchors", "x"], ["leave out --like"]),
        (["--strength", "2"], ["--strength says how far the image of --like"]),
        (["--like", "red_panda/0.png", "--strength", "nan"], ["'nan' is not a number"]),
    ],
)
def test_a_mistake_about_the_image_is_one_line(arguments, parts, rank, complains):
    complains(rank(*arguments), *parts)
