"""`clipjax texts`: from images and captions to checked texts, with the grammar writer and a chat server."""

import csv
import json
from pathlib import Path

import pytest
from chat_stub import Stub, serving

from clipjax.data.folder import open_folder
from clipjax.texts.collected import read_texts
from clipjax.texts.store import TextStore

CONFIG = Path(__file__).parents[2] / "configs" / "texts.py"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "texts.jsonl"


@pytest.fixture
def generate(clipjax, store):
    """A function that runs `texts generate` on the store with some settings."""

    def run(*settings, config=None):
        config = [f"--config={config}"] if config else []
        return clipjax(
            "texts", "generate", *config, *(f"--set={pair}" for pair in settings), "--store", store, "--json"
        )

    return run


@pytest.fixture
def captions(photos, tmp_path):
    """A Flickr-like CSV with two captions of each picture, by file name and a folder."""
    path = tmp_path / "captions.csv"
    names = enumerate(open_folder(photos).ids)
    lines = [f"{name},a picture of number {n} in {name[:3]}\n{name},a second one\n" for n, name in names]
    path.write_text("image,caption\n" + "".join(lines))
    return path


def test_captions_of_all_images_are_written_once(generate, photos, store):
    first = generate(f"images={photos}")
    assert first.status == 0, first.err
    assert {k: first.json[k] for k in ("questions", "answered", "known", "failed")} == {
        "questions": 12, "answered": 12, "known": 0, "failed": 0,
    }  # fmt: skip
    before = store.read_bytes()
    assert (generate(f"images={photos}").json["answered"], store.read_bytes()) == (0, before)
    assert len(read_texts(store).about("caption", open_folder(photos).ids)) == 12


def test_the_configuration_file_names_what_is_asked(clipjax, generate, photos, store, captions):
    assert clipjax("texts", "import", captions, "--store", store).status == 0
    found = generate("pairs=20", config=f"{CONFIG}:differences")
    assert found.status == 0, found.err
    assert found.json["questions"] == 20
    assert len(read_texts(store).pairs()) == found.json["answered"]
    assert generate(config=f"{CONFIG}:rewrites").json["answered"] == 12
    assert generate(f"images={photos}", "pairs=9", config=f"{CONFIG}:differences-of-images").json["answered"] == 9


def test_pairs_of_few_images_or_of_those_most_alike_are_asked_about(generate, photos, checkpoint, store):
    asked = ("ask=difference-of-images", f"images={photos}")
    assert generate(*asked, "pairs=99", "pair_images=4").json["questions"] == 6
    assert len({name for pair in read_texts(store).pairs() for name in pair}) == 4
    found = generate(*asked, "pairs=3", "hard_pairs=true", f"weights={checkpoint}").json
    assert found["questions"] == 3 and found["failed"] == 0


@pytest.mark.parametrize("named_by", ["a file", "the folders"])
def test_groups_follow_zero_shot_labels_and_nobody_elses(named_by, generate, photos, classes, checkpoint, store):
    settings = [f"images={photos}", f"weights={checkpoint}", "ask=group-caption"]
    settings += [f"classes={classes}"] if named_by == "a file" else []
    found = generate(*settings)
    assert found.json["answered"] == 12, found.err
    assert ("3 classes, named by" in found.err) == (named_by == "the folders")
    groups = {record.subjects for record in TextStore(store).records("group_caption")}
    assert all(len(subjects) == 5 for subjects in groups) and len(groups) == 12
    from clipjax.classify.class_texts import class_list_of
    from clipjax.cli.texts.clip import TextClip
    from clipjax.data.classes import read_classes
    from clipjax.progress import silent

    source = open_folder(photos)
    clip = TextClip(str(checkpoint), str(store), silent)
    names = read_classes(classes) if named_by == "a file" else class_list_of(source)
    labels = dict(zip(source.ids, clip.zero_shot(source, names, ())))
    assert all(len({labels[name] for name in subjects}) == 1 for subjects in groups)
    assert generate(*settings).json["answered"] == 0


def test_a_chat_server_is_asked_what_is_open_and_failures_are_asked_again(clipjax, generate, photos, store):
    bad = open_folder(photos).ids[3]
    with serving(Stub(lambda question, attempt: 400 if attempt == 4 else f"a thing number {attempt}")) as stub:
        chat = [f"images={photos}", "writer=chat", f"chat.url={stub.url}", "chat.model=m", "chat.concurrency=1"]
        first = generate(*chat, "budget.requests=8")
        assert (first.json["answered"], first.json["failed"]) == (7, 1) and first.json["tokens"] > 0
        assert "8 requests" in first.json["stopped"]
        listed = clipjax("texts", "stats", store, "--json").json["kinds"][0]
        assert (listed["texts"], listed["failed"]) == (7, 1) and "400" in next(iter(listed["errors"]))
        second = generate(*chat)
    assert (second.json["answered"], second.json["known"]) == (5, 7)
    assert len(stub.requests) == 13 and bad in {record.subjects[0] for record in TextStore(store).records()}


def test_import_adds_what_is_new(clipjax, store, captions, tmp_path):
    assert clipjax("texts", "import", captions, "--store", store, "--json").json["texts"] == 24
    assert "added 0 texts, 24 were there" in clipjax("texts", "import", captions, "--store", store).err
    cupl = tmp_path / "cupl.json"
    cupl.write_text(json.dumps({"red panda": ["A red panda is red.", "It has a tail."]}))
    other = tmp_path / "other.jsonl"
    assert clipjax("texts", "import", cupl, "--model", "gpt-3", "--store", other).status == 0
    assert clipjax("texts", "import", other, "--store", store, "--json").json["texts"] == 26
    assert read_texts(store, models=["gpt-3"]).about("class_description", ["red panda"]) == [
        ("A red panda is red.", "It has a tail.")
    ]


def test_check_flags_texts_and_keeps_the_others(clipjax, store, captions, photos, checkpoint, tmp_path):
    text = captions.read_text().replace("a second one", "Sure, here is the", 1).replace("a second one", "very " * 40, 1)
    captions.write_text(text)
    clipjax("texts", "import", captions, "--store", store)
    flagged, good = tmp_path / "flagged.csv", tmp_path / "good.jsonl"
    arguments = ["texts", "check", store, "--weights", checkpoint, "--images", photos, "--percent", 10]
    found = clipjax(*arguments, "-o", flagged, "--keep", good, "--json")
    assert found.status == 0, found.err
    flags = found.json["flags"]
    assert flags["begins_with_a_preamble"] == flags["breaks_off"] == flags["is_cut"] == flags["repeats_itself"] == 1
    assert 1 <= flags["fits_badly"] <= 3  # equal texts of equal images may share a place
    (fit,) = found.json["fit"]
    assert (fit["kind"], fit["texts"]) == ("caption", 24)
    with flagged.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found.json["flagged"] and len(TextStore(good)) == 24 - len(rows)
    lowest = [float(row["similarity"]) for row in rows]
    assert lowest == sorted(lowest) and "fits_badly" in rows[0]["flags"]
    assert clipjax(*arguments, "-o", flagged).status == 2


def test_pages_are_written(clipjax, generate, photos, store, tmp_path):
    generate(f"images={photos}")
    page, numbers = tmp_path / "sample.html", tmp_path / "numbers.html"
    assert clipjax("texts", "sample", store, "-n", 5, "--images", photos, "-o", page).status == 0
    assert page.read_text().count("data:image/jpeg") == 5 and page.read_text().count("A picture that is") == 5
    shown = clipjax("texts", "stats", store, "--html", numbers)
    assert "caption" in shown.out and "clipjax/grammar-1" in numbers.read_text()
    assert clipjax("texts", "stats", store, "--html", numbers).status == 2


def test_adapt_takes_texts_along(clipjax, generate, photos, classes, checkpoint, store, tmp_path):
    generate(f"images={photos}")
    run = ["adapt", "--method", "zero_shot", "--weights", checkpoint, "--images", photos, "--classes", classes]
    found = clipjax(*run, "--texts", store, "-o", tmp_path / "run")
    assert found.status == 0, found.err
    TextStore(store).append([next(TextStore(store).records()).__class__("caption", ("more.png",), "one more")])
    assert clipjax(*run, "--texts", store, "-o", tmp_path / "run").status == 2  # other texts: another run


def test_texts_that_were_written_earlier_answer_questions(generate, photos, captions, store):
    found = generate(f"images={photos}", "writer=files", f"files.path={captions}")
    assert (found.status, found.json["answered"], found.json["model"]) == (0, 12, "clipjax/files captions.csv")


def test_bad_images_can_be_left_out(clipjax, generate, broken_photos, classes, checkpoint, complains, store, tmp_path):
    settings = [f"images={broken_photos}", f"classes={classes}", f"weights={checkpoint}", "ask=group-caption"]
    complains(generate(*settings), "cannot be")
    found = generate(*settings, "skip_bad=true")
    assert (found.status, found.json["answered"]) == (0, 10)
    page = tmp_path / "page.html"
    looked = clipjax(
        "texts", "sample", store, "--images", broken_photos, "--skip-bad", "--weights", checkpoint, "-o", page
    )
    assert looked.status == 0 and page.read_text().count("similarity") == 10


def test_published_templates_are_templates(clipjax, store, tmp_path):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"eurosat": ["a satellite photo of {}.", "{} from above."]}))
    assert clipjax("texts", "import", path, "--store", store).status == 0
    assert read_texts(store).about("template", ["eurosat"]) == [("a satellite photo of {}.", "{} from above.")]


def test_files_of_one_name_are_told_apart(clipjax, store, tmp_path):
    for folder, text in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "captions.json"
        path.write_text(json.dumps({"1.jpg": [f"the {text} text"]}))
        assert clipjax("texts", "import", path, "--store", store, "--json").json["added"][str(path)] == 1


MISTAKES = {
    "hard pairs without a model": (
        ["ask=difference-of-images", "images={photos}", "hard_pairs=true"],
        ["hard pairs", "weights=PATH"],
    ),
    "one image to pair": (["images={photos}", "pair_images=1"], ["pair_images is 1"]),
    "pairs below one": (["images={photos}", "pairs=-1"], ["pairs is -1"]),
    "a group of none": (["images={photos}", "group_size=0"], ["group_size is 0", "from 1 to 100"]),
    "a seed below zero": (["images={photos}", "seed=-1"], ["seed is -1"]),
    "a budget that is a number": (["images={photos}", "budget=5"], ["budget", "budget.requests=N"]),
    "a budget of nothing": (["images={photos}", "budget.requests=0"], ["budget.requests is 0"]),
    "no side of images": (
        ["images={photos}", "writer=chat", "chat.url=http://x", "chat.model=m", "chat.image_side=0"],
        ["image_side=0"],
    ),
    "no such prompt": (["ask=portrait"], ["portrait", "image-caption"]),
    "nothing is asked": (["ask=[]"], ["`ask` is empty"]),
    "no images": ([], ["image-caption", "images=DIR"]),
    "no such images": (["images=nowhere"], ["nowhere"]),
    "no classes": (["ask=descriptions"], ["classes=FILE"]),
    "no class names": (
        ["ask=group-caption", "images={photos}/red_panda", "weights={checkpoint}"],
        ["red_panda: names 0 classes", "classes=FILE"],
    ),
    "no weights": (["ask=group-caption", "images={photos}", "classes={classes}"], ["weights=PATH"]),
    "no captions": (["ask=rewrite"], ["no such file of captions", "captions=FILE"]),
    "an unknown setting": (["imges=x"], ["imges", "did you mean 'images'"]),
    "no such writer": (["writer=parrot"], ["parrot", "grammar"]),
    "a chat server without an address": (["writer=chat", "images={photos}", "chat.model=m"], ["chat.url"]),
    "a chat setting that is none": (["writer=chat", "chat.url=http://x", "chat.model=m", "chat.heat=2"], ["chat.heat"]),
    "nobody listens": (
        ["writer=chat", "images={photos}", "chat.url=http://127.0.0.1:9/v1", "chat.model=m", "chat.retries=0"],
        ["127.0.0.1:9", "start one"],
    ),
    "a writer that cannot": (["ask=descriptions", "classes={classes}"], ["grammar writer", "class_description"]),
    "a budget of words": (["images={photos}", "budget.requests=many"], ["budget.requests"]),
    "prompts with a placeholder too many": (["images={photos}", "prompts={prompts}"], ["image-caption", "{mood}"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case, generate, complains, photos, classes, checkpoint, tmp_path, store):
    prompts = tmp_path / "prompts.json"
    question = {"kind": "caption", "text": "Describe this in a {mood} mood."}
    prompts.write_text(json.dumps({"questions": {"image-caption": question}}))
    settings, parts = MISTAKES[case]
    places = {"photos": photos, "classes": classes, "prompts": prompts, "checkpoint": checkpoint}
    complains(generate(*(text.format(**places) if "{" in text else text for text in settings)), *parts)
    assert not store.exists() or len(TextStore(store)) == 0


def test_a_damaged_or_newer_store_is_refused(clipjax, complains, generate, photos, store):
    generate(f"images={photos}")
    lines = store.read_text().splitlines(keepends=True)
    for changed, parts in (
        ([*lines[:4], lines[4].replace("picture", "pi\x00cture"), *lines[5:]], ["line 5"]),
        ([*lines[:4], '{"nonsense":1}\n', *lines[4:]], ["line 5", "mend or remove"]),
        (['{"clipjax texts":99}\n', *lines[1:]], ["newer clipjax", "99"]),
        (["hello\n"], ["not a text store"]),
    ):
        store.write_text("".join(changed))
        complains(clipjax("texts", "check", store), store.name, *parts)
    complains(clipjax("texts", "stats", store.with_name("absent.jsonl")), "absent.jsonl", "no such text store")
    assert store.read_text() == "hello\n"
    complains(generate(f"images={photos}"), "not a text store")
    assert store.read_text() == "hello\n"


def test_an_unreadable_image_fails_alone(generate, broken_photos, store):
    found = generate(f"images={broken_photos}")
    assert (found.json["answered"], found.json["failed"]) == (10, 2)
    reasons = {record.subjects[0]: record.error for record in TextStore(store).records(state="failed")}
    assert set(reasons) == {"green_tree/1.png", "red_panda/2.png"}
    assert all(name in reason for name, reason in reasons.items())


@pytest.fixture
def phrases(clipjax, tmp_path):
    """An inventory of the phrases of a few captions."""
    path, inventory = tmp_path / "flickr.csv", tmp_path / "phrases.txt"
    things = ["a green tree", "the blue sky", "a red panda", "an old wall", "two dogs"]
    path.write_text(
        "image,caption\n" + "".join(f"{n}.jpg,{a} and {b} .\n" for n, a in enumerate(things) for b in things)
    )
    found = clipjax("texts", "phrases", path, "-o", inventory)
    assert found.status == 0 and "wrote" in found.err
    return inventory


def test_the_retrieval_writer_describes_images_and_groups(generate, photos, classes, checkpoint, phrases, store):
    settings = ["writer=retrieval", f"retrieval.weights={checkpoint}", f"retrieval.phrases={phrases}"]
    settings += [f"images={photos}", f"classes={classes}", f"weights={checkpoint}"]
    found = generate(*settings, config=f"{CONFIG}:latteclip")
    assert (found.json["questions"], found.json["answered"]) == (24, 24), found.err
    known = [line.split()[-1].rstrip("s") for line in phrases.read_text().splitlines()[1:]]
    for record in TextStore(store).records():
        assert any(word in record.text for word in known)
    assert generate(*settings, config=f"{CONFIG}:latteclip").json["answered"] == 0
    # another inventory writes anew
    phrases.write_text("".join(phrases.read_text().splitlines(keepends=True)[:-1]))
    assert generate(*settings, config=f"{CONFIG}:latteclip").json["answered"] == 24


def test_a_phrase_that_is_none_is_named_by_its_line(generate, complains, photos, checkpoint, phrases):
    phrases.write_text(phrases.read_text() + "# 12\n")
    settings = [f"images={photos}", "writer=retrieval", f"retrieval.weights={checkpoint}"]
    number = len(phrases.read_text().splitlines())
    complains(generate(*settings, f"retrieval.phrases={phrases}"), phrases.name, f"line {number}")
