"""The paper's tasks: what is drawn, that sentences are true of their pairs, and the released code's mistakes."""

import numpy as np
import pytest

from clipjax.data.awa2 import TEST_CLASSES, AttributeTable, read_attributes
from clipjax.data.source import memory_source
from clipjax.errors import DataError
from clipjax.evaluation.difference_tasks import (
    BLUE,
    BLUE_OF_CODE,
    LARGE,
    NOT_VISUAL,
    SMALL,
    YELLOW,
    YELLOW_OF_CODE,
    attribute_task,
    colour_task,
    size_task,
    written_task,
)
from clipjax.texts.collected import Texts


def source_of(names, each=20):
    """Images of these classes with labels that have nothing to do with anyone else's."""
    listed = [name for name in names for _ in range(each)]
    return memory_source([b""] * len(listed), labels=[names.index(n) for n in listed], classnames=listed, name="set")


ANIMALS = source_of(["bear", *SMALL, "tiger", *LARGE])
ATTRIBUTES = (
    "furry",
    "big",
    "small",
    "smelly",
    "flys",
    "fish",
    "meat",
    "plankton",
    "vegetation",
    "solitary",
    "nestspot",
)
OTHERS = ("antelope", "grizzly+bear")


def table():
    """Twelve classes with attributes at random, of which the test classes are not the first."""
    classes = (*OTHERS, *reversed(TEST_CLASSES))
    has = np.random.default_rng(0).random((len(classes), len(ATTRIBUTES))) < 0.5
    return AttributeTable(classes, ATTRIBUTES, has)


def test_a_larger_animal_is_said_to_be_larger_in_every_pair_of_a_large_and_a_small_one():
    task = size_task(ANIMALS, seed=3)
    names = np.array(ANIMALS.classnames)[task.images]
    assert len(task.images) == 100 and set(names) == {*LARGE, *SMALL}
    large = np.isin(names, LARGE)
    assert len(task.pairs) == large.sum() * (~large).sum() == len(task.sentences)
    for (first, second), sentence in zip(task.pairs, task.sentences):
        assert large[first] != large[second] and first < second
        assert sentence.startswith(f"The first image shows a {'larger' if large[first] else 'smaller'} animal")


def test_draws_differ_by_seed_and_are_the_same_for_one():
    drawn = [size_task(ANIMALS, seed=seed).images for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("compat", "blue"), [(False, BLUE), (True, BLUE_OF_CODE)])
def test_flowers_are_the_blue_and_yellow_ones_and_as_published_others(compat, blue):
    flowers = source_of([*BLUE, *YELLOW, *BLUE_OF_CODE, *YELLOW_OF_CODE])
    task = colour_task(flowers, paper_code_compat=compat)
    names = np.array(flowers.classnames)[task.images]
    assert set(names) == ({*BLUE_OF_CODE, *YELLOW_OF_CODE} if compat else {*BLUE, *YELLOW})
    for (first, _), sentence in zip(task.pairs, task.sentences):
        assert sentence.startswith(f"The first image shows a {'blue' if names[first] in blue else 'yellow'} flower")


def told(sentence):
    first, second = sentence.removesuffix(".").split(", while the second image ")
    words = lambda side: set(side.split(" is ")[-1].removeprefix("is ").split(", ")) - {"none of this"}
    return words(first), words(second)


def test_animals_are_compared_by_what_only_one_of_both_has_and_a_picture_shows():
    animals, known = source_of(sorted(TEST_CLASSES)), table()
    task = attribute_task(animals, known)
    names = np.array(animals.classnames)[task.images]
    has = {name: set(known.of(name)) - set(NOT_VISUAL) for name in TEST_CLASSES}
    assert len(task.pairs) == sum(has[a] != has[b] for i, a in enumerate(names) for b in names[:i])
    for (first, second), sentence in zip(task.pairs, task.sentences):
        a, b = has[names[first]], has[names[second]]
        assert told(sentence) == (a - b, b - a)


def test_as_published_the_first_classes_and_the_attributes_after_those_meant_are_taken():
    animals, known = source_of(sorted(TEST_CLASSES)), table()
    task = attribute_task(animals, known, paper_code_compat=True)
    names = np.array(animals.classnames)[task.images]
    row = dict(zip(sorted(TEST_CLASSES), known.classes))
    assert row["chimpanzee"] == "antelope"
    # each after one that is not visual: smelly, fish, meat, plankton, solitary
    removed = {"flys", "meat", "plankton", "vegetation", "nestspot"}
    has = {name: set(known.of(row[name])) - removed for name in TEST_CLASSES}
    for (first, second), sentence in zip(task.pairs, task.sentences):
        a, b = has[names[first]], has[names[second]]
        assert told(sentence) == (a - b, b - a)


def test_written_differences_are_drawn_with_their_pairs():
    birds = source_of(["bird"], each=6)
    ids = birds.ids
    written = {(ids[i], ids[j]): (f"{i} and {j}",) for i in range(2, 6) for j in range(i)} | {("x", ids[0]): ("no",)}
    task = written_task(birds, Texts({"difference": written}), count=9, seed=1)
    assert len(task.pairs) == 9
    for (first, second), sentence in zip(task.images[task.pairs], task.sentences):
        assert sentence == f"{first} and {second}"
    with pytest.raises(DataError, match="pair_images=200"):
        written_task(birds, Texts({"difference": {("x", "y"): ("no",)}}))


def test_class_names_are_found_however_they_are_written():
    animals = source_of(["Giant_Panda" if name == "giant+panda" else name for name in TEST_CLASSES])
    assert len(attribute_task(animals, table()).images) == 100


def test_missing_classes_are_named_with_what_to_give():
    with pytest.raises(DataError, match=r"set: lacks lion, wolf, and has the classes .*; give CIFAR-100's test images"):
        size_task(source_of([*SMALL, "camel", "leopard"]))
    with pytest.raises(DataError, match="names no classes"):
        colour_task(memory_source([b""]))


def test_where_no_two_images_differ_in_what_is_asked_that_is_said():
    alike = AttributeTable(TEST_CLASSES, ("furry", "big"), np.ones((len(TEST_CLASSES), 2), bool))
    with pytest.raises(DataError, match="set: of 100 images drawn no two differ"):
        attribute_task(source_of(sorted(TEST_CLASSES)), alike)


def test_of_classes_with_the_same_attributes_nothing_is_said():
    has = np.zeros((len(TEST_CLASSES), 2), bool)
    has[0, 0] = has[1, 1] = True  # all others have nothing
    animals = source_of(list(TEST_CLASSES), each=2)
    task = attribute_task(animals, AttributeTable(TEST_CLASSES, ("furry", "big"), has))
    named = np.array(animals.classnames)[task.images[task.pairs]]
    assert len(named) == 2 * 2 + 2 * 4 * 8 and all(set(pair) & set(TEST_CLASSES[:2]) for pair in named.tolist())


# ---- the files of AwA2 ----


@pytest.fixture
def files(tmp_path):
    (tmp_path / "classes.txt").write_text("     1\tantelope\n     2\tgiant+panda\n")
    (tmp_path / "predicates.txt").write_text("     1\tblack\n     2\tbig\n     3\tfurry\n")
    (tmp_path / "predicate-matrix-binary.txt").write_text("0 1 1\n1 1 0\n")
    return tmp_path


def test_the_attribute_table_is_read(files):
    found = read_attributes(files)
    assert found.of("antelope") == ("big", "furry") and found.of("giant+panda") == ("black", "big")
    with pytest.raises(DataError, match="no class 'cat'"):
        found.of("cat")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("classes.txt", None, "lacks classes.txt; give the folder of Animals with Attributes 2"),
        ("predicates.txt", "1 black\n3 big\n", "line 2 is '3 big'; expected 2 and a name"),
        ("predicate-matrix-binary.txt", "0 1 1\n", "expected 2 lines of 3"),
        ("predicate-matrix-binary.txt", "0 1 2\n0 0 1\n", "zeros and ones"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, name, text, complaint):
    (files / name).unlink() if text is None else (files / name).write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_attributes(files)
