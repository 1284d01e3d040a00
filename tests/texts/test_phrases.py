"""Noun phrases come out of sentences by rule, always the same ones, and stay in their file."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipjax.data.captions import read_captions
from clipjax.errors import ConfigError, DataError, OutputError
from clipjax.texts.english import singular, with_article
from clipjax.texts.phrases import fingerprint, mine_phrases, phrases_of, read_phrases, source_digest, write_phrases

WORDS = st.sampled_from(
    ["a", "the", "dog", "dogs", "brown", "black", "and", "white", "herd", "of", "runs", "sleeping", "covered", "3", ","]
)
SENTENCES = st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=12)


@pytest.mark.parametrize(
    ("sentence", "phrases"),
    [
        ("A brown dog runs through a grassy field .", {"brown dog", "dog", "grassy field", "field"}),
        ("A man riding a horse on the beach", {"man", "horse", "beach"}),
        ("The black and white dog has a ball.", {"black and white dog", "dog", "ball"}),
        ("A herd of sheep", {"herd of sheep", "herd", "sheep"}),
        ("a group of people in a living room", {"group of people", "people", "living room", "room"}),
        ("A sleeping cat on a bed covered in toys", {"sleeping cat", "cat", "bed", "toys"}),
        ("two men painting the wooden fence slowly", {"men", "wooden fence", "fence"}),
        ("An aerial view of a river.", {"aerial view", "river"}),
        ("a grey haired man’s hat is red", {"hat"}),
        ("a grey haired man with a type of thing", {"grey haired man", "man"}),
        ("it is very blurry", set()),
        ("", set()),
    ],
)
def test_noun_phrases_are_found(sentence, phrases):
    assert set(phrases_of(sentence)) == phrases


@pytest.mark.parametrize("longest", [1, 2, 3, 4])
def test_no_phrase_is_longer_than_asked(longest):
    found = phrases_of("A large black and white dog near a small group of young men", longest=longest)
    assert max(len(phrase.split()) for phrase in found) == longest


def test_frequent_phrases_come_first_then_the_alphabet():
    sentences = ["a cat", "the cat sits", "my cat .", "a dog", "the dog sits", "an owl", "the owl sits"]
    assert mine_phrases(sentences, at_least=2) == ["cat", "dog", "owl"]
    assert mine_phrases(sentences, at_least=3) == ["cat"]
    assert mine_phrases(sentences, at_least=2, most=2) == ["cat", "dog"]


def test_a_sentence_counts_once():
    assert mine_phrases(["a cat", "a cat", "a dog", "the dog"], at_least=2) == ["dog"]


def test_singular_and_plural_are_one_phrase():
    assert mine_phrases(["a brown dog", "two brown dogs", "the brown dogs"], at_least=3) == ["brown dogs", "dogs"]


@given(SENTENCES, st.randoms())
def test_the_order_of_the_sentences_does_not_matter(sentences, order):
    sentences = ["a dog", *sentences]
    shuffled = list(sentences)
    order.shuffle(shuffled)
    assert mine_phrases(shuffled, at_least=1) == mine_phrases(sentences, at_least=1)
    assert source_digest(shuffled, at_least=1) == source_digest(sentences, at_least=1)


@given(st.text())
def test_any_text_yields_phrases_that_a_file_can_hold(tmp_path_factory, text):
    phrases = mine_phrases(["a dog", text], at_least=1)
    path = tmp_path_factory.mktemp("phrases") / "found.txt"
    write_phrases(path, phrases)
    assert read_phrases(path) == phrases


def test_the_file_says_what_it_was_mined_from(tmp_path):
    sentences = ["a dog", "the red house"]
    settings = {"at_least": 1, "longest": 4}
    digest = source_digest(sentences, **settings)
    write_phrases(tmp_path / "a.txt", mine_phrases(sentences, **settings), sources=digest)
    first, *rest = (tmp_path / "a.txt").read_text().splitlines()
    assert digest in first
    assert rest == ["dog", "house", "red house"]
    assert digest not in (source_digest(sentences[:1], **settings), source_digest(sentences, at_least=2, longest=4))


def test_a_fingerprint_tells_inventories_apart():
    assert fingerprint(["dog", "cat"]) == fingerprint(("dog", "cat"))
    assert len({fingerprint(phrases) for phrases in (["dog", "cat"], ["cat", "dog"], ["dog cat"], ["dog"])}) == 4


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "line 1 is not that of a phrase inventory"),
        ("dog\ncat\n", "line 1 is not that of a phrase inventory"),
        ("# clipjax phrases 99, sources 0a\ndog\n", "written by a newer clipjax"),
        ("# clipjax phrases 1, sources 0a\n", "holds no phrases"),
        ("# clipjax phrases 1, sources 0a\ndog\n\ncat\n", "line 3 is ''"),
        ("# clipjax phrases 1, sources 0a\ndog\nBig cat\n", "line 3 is 'Big cat'"),
        ("# clipjax phrases 1, sources 0a\ndog\ncat\ndog\n", "line 4 repeats 'dog' of line 2"),
    ],
)
def test_a_file_that_is_no_inventory_is_refused(tmp_path, content, complaint):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match=complaint):
        read_phrases(tmp_path / "a.txt")


def test_nothing_is_written_that_cannot_be_read_or_over_another_file(tmp_path):
    for phrases in (["dog\ncat"], ["Dog"], ["dog", "dog"], []):
        with pytest.raises(DataError):
            write_phrases(tmp_path / "a.txt", phrases)
    assert list(tmp_path.iterdir()) == []
    write_phrases(tmp_path / "a.txt", ["dog"])
    with pytest.raises(OutputError, match="exists already"):
        write_phrases(tmp_path / "a.txt", ["cat"])
    assert read_phrases(tmp_path / "a.txt") == ["dog"]


def test_what_cannot_be_mined_is_refused():
    with pytest.raises(DataError, match="lower at_least"):
        mine_phrases(["a dog"])
    with pytest.raises(ConfigError, match="longest is 0"):
        mine_phrases(["a dog"], longest=0)


@pytest.mark.parametrize(
    ("phrase", "written"),
    [
        ("brown dog", "a brown dog"),
        ("orange cat", "an orange cat"),
        ("uniform", "a uniform"),
        ("green grass", "green grass"),
        ("young men", "young men"),
        ("grass", "grass"),
        ("sunglasses", "sunglasses"),
        ("dress", "a dress"),
        ("herd of sheep", "a herd of sheep"),
        ("slices of pizza", "slices of pizza"),
    ],
)
def test_phrases_take_their_article(phrase, written):
    assert with_article(phrase) == written


@pytest.mark.parametrize(
    ("plural", "one"),
    [("dogs", "dog"), ("boxes", "box"), ("benches", "bench"), ("puppies", "puppy"), ("dresses", "dress")]
    + [(same, same) for same in ("glass", "glasses", "bus", "tennis", "sheep", "shorts")],
)
def test_plurals_lose_their_ending(plural, one):
    assert singular(plural) == one


def test_published_captions_yield_what_captions_are_about(shared_data):
    folder = shared_data / "data" / "texts" / "captions"
    captions = read_captions(folder / "flickr8k_captions_all40455.csv")
    sentences = [text for texts in list(captions.values())[:2000] for text in texts]
    phrases = mine_phrases(sentences)
    assert {"dog", "man", "brown dog", "grassy field", "black and white dog", "swimming pool"} <= set(phrases[:400])
    assert not {"runs", "riding", "brown", "wearing", "jumps", "the dog", "front", "something"} & set(phrases)
    random.Random(0).shuffle(sentences)
    assert mine_phrases(sentences) == phrases
