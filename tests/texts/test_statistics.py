import re

from PIL import Image

from clipjax.texts.html import Card, sample_page, statistics_page
from clipjax.texts.record import TextRecord
from clipjax.texts.statistics import statistics

RECORDS = [
    TextRecord("caption", ("a.jpg",), "a brown dog", "one", "image-caption"),
    TextRecord("caption", ("b.jpg",), "a brown dog", "one", "image-caption"),
    TextRecord("caption", ("c.jpg",), "Sure, a very large brown dog", "two", "image-caption"),
    TextRecord("caption", ("d.jpg",), error="the answer is empty"),
    TextRecord("difference", ("a.jpg", "b.jpg"), "the first image shows more", "one"),
    TextRecord("difference", ("a.jpg", "c.jpg"), rejected="is_short", raw="more"),
]


def test_texts_are_counted_kind_by_kind():
    captions, differences = statistics(reversed(RECORDS))
    assert (captions.kind, captions.texts, captions.subjects, captions.failed) == ("caption", 3, 3, 1)
    assert captions.words == {5: 3, 50: 3, 95: 6, 100: 6} and captions.histogram == {3: 2, 6: 1}
    assert (captions.repeated, captions.often) == (1, [("a brown dog", 2)])
    assert captions.models == {"one": 2, "two": 1} and captions.errors == {"the answer is empty": 1}
    assert captions.faulty == 1 and captions.faults == {"begins_with_a_preamble": 1}
    assert captions.frequent_words[0] == ("brown", 3)
    assert (differences.kind, differences.texts, differences.rejected) == ("difference", 1, 1)
    assert differences.errors == {"is short": 1} and differences.failed == 0


def test_a_kind_may_hold_failures_only():
    (only,) = statistics([RECORDS[3]])
    assert (only.texts, only.failed) == (0, 1)
    assert "the answer is empty" in statistics_page([only], title="t")


def test_the_statistics_page_tells_the_numbers():
    page = statistics_page(statistics(RECORDS), title="Texts of <s>", note="5 texts")
    assert "<h1>Texts of &lt;s&gt;</h1>" in page and "begins with a preamble" in page
    assert page.count('title="') == 4 + 1  # 3 to 6 words, and 5 words
    assert "http" not in page


def test_the_histogram_has_few_bars_however_long_the_texts():
    records = [TextRecord("caption", (f"{n}",), "word " * n) for n in (1, 70, 1000)]
    page = statistics_page(statistics(records), title="t")
    assert page.count("<div style=") <= 60 and "words: 1 texts" in page


def test_the_sample_page_shows_texts_images_and_faults():
    hostile = TextRecord("caption", ("x.jpg",), "<script>alert(1)</script>", "one", raw="<b>")
    group = TextRecord("group_caption", ("z.jpg", "a.jpg", "b.jpg"), "dogs", "one")
    pictures = [Image.new("RGBA", (500, 300), "red"), Image.new("L", (20, 900))]
    cards = [Card(hostile, faults=["is_cut"]), Card(group, pictures, similarity=0.25)]
    page = sample_page(cards, title="t")
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "is cut" in page
    assert len(re.findall(r'src="data:image/jpeg;base64,[A-Za-z0-9+/=]+"', page)) == 2
    assert "similarity 0.250" in page and "a.jpg, b.jpg" in page and "z.jpg" not in page
    assert "http" not in page
