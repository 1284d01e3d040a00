"""The page about runs: whole or broken, with labels or without, and whatever names are in it."""

import json
import math
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipjax.evaluation.report as package
from clipjax.errors import DataError
from clipjax.evaluation.accuracy_report import accuracy_report
from clipjax.evaluation.image_by_image import PREDICTIONS_FILE, picture_file, predictions_of, write_predictions
from clipjax.evaluation.pseudo_labels import quality, write_quality
from clipjax.evaluation.report import report_page
from clipjax.evaluation.report.accuracy import sign_test
from clipjax.evaluation.report.svg import Series, line_plot, ticks
from clipjax.evaluation.run_record import read_run
from clipjax.methods.registry import METHODS

NAMES = ("cat", "dog", "fish")
VOID = {"meta", "img", "br", "path", "circle", "rect", "polyline"}


def _measured_on(before, after):
    """Write a measurement before and after whose classes are not the same."""
    of = lambda names: {
        **dict.fromkeys(("images", "top1", "top5", "mean_per_class", "ece"), 1),
        "class_names": names,
        "confusion": [[1] * len(names)] * len(names),
    }
    return json.dumps({"before": of(before), "after": of(after)}).encode()


class Tags(HTMLParser):
    """The tags and attributes of a page, which must be closed in the order in which they were opened."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.attributes = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


class Pictures:
    """Images by position, as a source has them."""

    def image(self, row):
        return Image.new("RGB", (20, 30), (row, 0, 0))


@pytest.fixture
def make_run(tmp_path):
    """A function that writes a run's directory."""

    def make(name="run", *, names=NAMES, measured=True, finished=True, method="some", ids=None, sessions=None):
        folder = tmp_path / name
        (folder / "model").mkdir(parents=True)
        identity = {"method": method, "config": {"seed": 3, "lr": 1e-3}, "weights": "abc", "images": "def"}
        (folder / "run.json").write_text(json.dumps(identity))
        start = {"event": "start", "time": "now", "command": ["clipjax", "adapt", "-o", "a b"], "devices": ["cpu"]}
        end = {"event": "done", "time": "then", "seconds": 3.5, "peak_memory_mb": 100}
        sessions = sessions or [start | {"versions": {"jax": "1.0"}}, end]
        (folder / "sessions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in sessions))
        steps = [{"stage": "fit", "step": n, "loss": 1 / n, "learning_rate": 0.1} for n in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps))
        if finished:
            note = {"class_names": list(names), "provenance": {"method": method, "images": 12, "steps": 3}}
            (folder / "model" / "classifier.json").write_text(json.dumps(note))
        if measured:
            random = np.random.default_rng(0)
            labels = np.arange(30) % len(names)
            before, after = random.normal(size=(30, len(names))), 3 * np.eye(len(names))[labels]
            after[:6] = random.normal(size=(6, len(names)))
            document = {
                "before": accuracy_report(before, labels, names).document(),
                "after": accuracy_report(after, labels, names).document(),
            }
            (folder / "accuracy.json").write_text(json.dumps(document))
            ids = ids or [f"photos/{n}.jpg" for n in range(30)]
            write_predictions(folder, predictions_of(ids, labels, before, after), Pictures())
        return folder

    return make


def page_of(*folders):
    return report_page([read_run(folder) for folder in folders], title="A report")


def test_a_whole_run_has_every_section_and_is_well_formed(make_run):
    page = page_of(make_run())
    tags = Tags(page)
    assert tags.found.count("img") > 3
    for words in ("Before and after", "Is it as sure", "prediction changed", "How training went", "-o &#39;a b&#39;"):
        assert words in page
    assert "config.seed" in page and 'jax</td><td class="left">1.0' in page


def test_the_page_asks_for_nothing(make_run):
    tags = Tags(page_of(make_run(), make_run("other")))
    asking = [value for _, name, value in tags.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert all(value.startswith(("data:image/jpeg;base64,", "#run-")) for value in asking)
    assert not {"script", "link", "iframe", "object", "form"} & set(tags.found)
    page = page_of(make_run("third"))
    assert "url(" not in page and "@import" not in page


def colours_under(media, style):
    """The names of the colours that a page sets for some media."""
    blocks = [style[found.end() :].split("\n}\n")[0] for found in re.finditer(re.escape(f"@media {media} {{"), style)]
    return set(re.findall(r"(--\w+):", "".join(blocks)))


def test_paper_is_white_whatever_the_screen_is(make_run):
    page = page_of(make_run())
    dark = colours_under("(prefers-color-scheme: dark)", page)
    assert "--ground" in dark and dark <= colours_under("print", page)


def test_every_plot_says_in_words_what_it_shows(make_run):
    page = page_of(make_run())
    assert page.count("<svg") == page.count("<desc>") == page.count('role="img" aria-label="') > 2
    assert "fit from 1 to 0.3333" in page


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_names_from_anywhere_are_text(make_run):
    slash = EVIL.replace("/", "\\")
    folder = make_run(
        slash[:60],
        names=(EVIL, "b" + EVIL, "c"),
        method=EVIL,
        ids=[EVIL + str(n) for n in range(30)],
        sessions=[
            {"event": "start", "time": EVIL, "command": [EVIL], "versions": {EVIL: EVIL}, "devices": [EVIL],
             "problem": {EVIL: EVIL, "images": [EVIL]}},
            {"event": "failed", "reason": EVIL, "seconds": EVIL, "peak_memory_mb": EVIL},
        ],
    )  # fmt: skip
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": EVIL, "step": 4, EVIL: 1.0, "loss": 2.0}) + "\n")
    (folder / "once").mkdir()
    np.savez(folder / "once" / f"{slash[:40]}.npz", clean=np.linspace(0, 1, 30), labels=np.arange(30) % 3)
    write_quality(folder, np.arange(30) % 3)
    tags = Tags(page_of(folder, make_run("plain")))
    assert "script" not in tags.found
    assert not [name for _, name, _ in tags.attributes if name.startswith("on")]
    assert "x" not in [value for _, name, value in tags.attributes if name == "src"]


@pytest.mark.parametrize(
    ("sessions", "said"),
    [
        ([{"event": "start"}, {"event": "failed", "reason": "the disk is full"}], "it failed: the disk is full"),
        ([{"event": "start"}, {"event": "stopped"}], "it was stopped"),
        ([{"event": "start"}], "it was killed, or is still at work"),
        ([{"event": "start"}, {"time": "now"}], "its result is missing"),
    ],
)
def test_an_unfinished_run_is_shown_as_far_as_it_came_and_says_so(sessions, said, make_run):
    page = page_of(make_run(finished=False, measured=False, sessions=sessions))
    assert "This run has not ended" in page and said in page
    assert "fit from 1 to 0.3333" in page


TESTED = {"event": "start", "problem": {"test": "photos/"}}


@pytest.mark.parametrize(
    ("sessions", "said"),
    [
        ([TESTED], "was killed, or is still at work"),
        ([TESTED, {"event": "stopped"}], "was stopped"),
        ([TESTED, {"event": "failed", "reason": "the disk is full"}], "failed: the disk is full"),
    ],
)
def test_a_run_that_ended_while_it_was_measured_says_so(sessions, said, make_run):
    page = page_of(make_run(measured=False, sessions=sessions))
    assert f"The last start of this run {said}" in page
    assert "though the command names labelled test images" in page and "Not measured" not in page


def test_runs_of_one_name_are_told_apart(make_run):
    page = page_of(make_run("p1/upl-1"), make_run("p2/upl-1"))
    assert ">p1/upl-1<" in page and ">p2/upl-1<" in page
    assert ">a-1<" in page_of(make_run("p1/a-1"), make_run("p1/b-1"))


def test_mixed_versions_are_remarked_on_in_a_run_and_between_runs(make_run):
    start = lambda version: {"event": "start", "versions": {"jax": version}, "devices": ["cpu"]}
    mixed = make_run(sessions=[start("1.0"), start("2.0"), {"event": "done"}])
    assert "several versions of jax: 1.0, then 2.0" in page_of(mixed)
    assert "different versions of jax: 1.0, 2.0" in page_of(make_run("one"), mixed)


def test_without_labels_the_sections_that_need_them_say_so(make_run):
    page = page_of(make_run(measured=False))
    assert "Not measured: the run had no labelled test images" in page
    assert "no hidden labels" in page and "prediction changed" not in page
    Tags(page)


@pytest.mark.parametrize("damage", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut short"])
def test_a_broken_picture_has_a_place_that_says_why(damage, make_run):
    folder = make_run()
    first, second, *_ = sorted((folder / "changed").iterdir())
    first.write_bytes(damage)
    second.unlink()
    page = page_of(folder)
    assert f"{first.name}: " in page and "no picture was kept" in page
    Tags(page)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("accuracy.json", b"{"),
        ("accuracy.json", b'{"before": {"top1": "many"}, "after": {}}'),
        ("accuracy.json", b"[]"),
        ("accuracy.json", _measured_on(("cat",), ("cat", "dog"))),
        (PREDICTIONS_FILE, b"PK cut"),
        ("metrics.jsonl", b'{"stage": "fit", "step": 1, "loss": 2}\n{"stage": '),
        ("metrics.jsonl", b'["no entry"]\n'),
        ("model/classifier.json", b"\xff\xfe"),
        ("pseudo_labels.json", b"{}"),
        ("sessions.jsonl", b"\x00"),
    ],
)
def test_a_damaged_part_leaves_a_remark_and_the_rest(file, content, make_run):
    folder = make_run()
    (folder / file).write_bytes(content)
    record = read_run(folder)
    assert any(Path(file).name in remark for remark in record.remarks)
    Tags(report_page([record], title="t"))


@pytest.mark.parametrize("odd", [True, None, "text", 3, [1], {"a": [1]}])
@pytest.mark.parametrize("name", ["command", "versions", "devices", "problem", "time", "event"])
def test_a_session_of_another_kind_does_not_hurt(name, odd, make_run):
    start = {"event": "start", "command": ["clipjax"], "versions": {"jax": "1"}, "devices": ["cpu"], "problem": {}}
    record = read_run(make_run(measured=False, sessions=[start | {name: odd}, start, {"event": "done"}]))
    assert "Do it again" in report_page([record, record], title="t")


def test_odd_metrics_do_not_hurt(make_run):
    folder = make_run()
    lines = [
        {"stage": "fit", "step": 4, "loss": None, "note": "text"},
        {"loss": 1},
        {"step": True, "loss": 2},
        {"step": 9},
        {"step": float("inf"), "loss": 2},
    ]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    page = page_of(folder)
    assert "1 values were not finite" in page


def test_what_is_no_run_is_refused(make_run, tmp_path):
    with pytest.raises(DataError, match="no such directory"):
        read_run(tmp_path / "absent")
    make_run("inside/one")
    with pytest.raises(DataError, match=r"it holds runs \(one\), name them"):
        read_run(tmp_path / "inside")
    folder = make_run(method="pretrain")
    with pytest.raises(DataError, match="is a run of pretraining"):
        read_run(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_run(folder)


def test_many_classes_are_listed_by_what_changed_most(make_run):
    page = page_of(make_run(names=tuple(f"class-{n:03}" for n in range(200))))
    assert "What is taken for what" in page and 'class="matrix"' not in page


def test_kept_probabilities_become_histograms_by_their_names(make_run):
    folder = make_run()
    (folder / "once").mkdir()
    kept = {"clean": np.linspace(0, 1, 40, dtype=np.float32), "raw": np.linspace(-5, 5, 40), "few": np.ones(3)}
    np.savez(folder / "once" / "judged-1.npz", **kept)
    page = page_of(folder)
    assert "clean (judged-1)" in page and "raw (" not in page and "few (" not in page


def test_no_method_is_known_by_name():
    sources = [path.read_text() for path in Path(package.__file__).parent.rglob("*") if path.suffix in (".py", ".html")]
    assert [name for name in METHODS for text in sources if f'"{name}"' in text or f"'{name}'" in text] == []


def test_pseudo_labels_are_judged_by_labels_or_scores_and_by_what_was_accepted():
    hidden = np.array([0, 1, 2, -1])
    found = quality({"labels": np.array([0, 1, 0, 0]), "accepted": np.array([True, False, True, True])}, hidden)
    shares = {"accepted": 200 / 3, "right": 200 / 3, "right_of_accepted": 50.0, "accepted_of_right": 50.0}
    assert found == pytest.approx({"images": 3, **shares})
    assert quality({"labels": np.zeros(4, int), "told": np.array([0, 1, 1, 1])}, hidden)["right"] == 100
    assert quality({"labels": np.zeros(4, int), "told": np.ones(4)}, hidden) is None
    scores = {"scores": np.eye(3, dtype=np.float32)[[2, 1]], "indices": np.array([2, 0])}
    assert quality(scores, hidden)["right"] == 50
    assert quality({"accuracy": np.float32(1)}, hidden) is None
    assert quality({"labels": np.array([0, 1])}, hidden) is None


def test_changed_images_are_those_whose_best_class_moved(make_run):
    found = read_run(make_run()).predictions
    rows = np.concatenate(list(found.changed().values()))
    assert sorted(rows) == np.flatnonzero(found.before != found.after).tolist()


def test_pictures_of_an_earlier_measurement_go(make_run):
    folder = make_run()
    found = read_run(folder).predictions
    picture_file(folder, 999).write_bytes(b"old")
    write_predictions(folder, found, Pictures())
    assert not picture_file(folder, 999).exists()


def test_sign_test_is_the_binomial_one():
    for better, worse in ((0, 0), (3, 3), (12, 4), (1, 30), (400, 300)):
        total = better + worse
        tail = sum(Fraction(math.comb(total, k), 2**total) for k in range(min(better, worse) + 1))
        assert sign_test(better, worse) == pytest.approx(float(min(1, 2 * tail)), rel=1e-9)


NEXT = math.nextafter(0.95, 1)


@pytest.mark.parametrize(
    "span", [(0, 1), (-3, 8), (1e-9, 3e-9), (41.7901, 41.7973), (5, 5), (0, 0), (0, 123456), (0.95, NEXT), (0, 5e-324)]
)
def test_ticks_span_the_numbers_and_are_few(span):
    found = ticks(*span)
    assert found[0] <= span[0] * (1 + 1e-9) and found[-1] >= span[1] * (1 - 1e-9) and 2 <= len(found) <= 8


def test_a_line_has_a_gap_where_a_number_is_missing():
    points = [(0, 1.0), (1, 2.0), (2, None), (3, float("inf")), (4, 1.0), (5, 0.0)]
    assert line_plot([Series("a", points)], title="t", description="d").count("<polyline") == 2
