"""The paper's four tasks of telling differences: which pairs of which images, and the sentence about each pair.

AwA2's attributes, the size of CIFAR-100's animals, the colour of Flowers102's flowers, and written differences of CUB's
birds (Sam et al., arXiv 2409.09721, and its released code). Classes are found by name, whatever numbers a source gives
them. `paper_code_compat` repeats the mistakes of the released code, to compare with its numbers. Subsets are drawn by
NumPy and not by torch: numbers agree with the paper's within their standard errors, not exactly.
"""

import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.data.awa2 import TEST_CLASSES, AttributeTable
from clipjax.data.image_names import ImageNames
from clipjax.data.source import ImageSource
from clipjax.data.textfile import examples
from clipjax.errors import DataError
from clipjax.texts.collected import Texts

IMAGES = 100
"""How many images of a task's classes are drawn."""

LARGE, SMALL = ("camel", "leopard", "lion", "wolf"), ("hamster", "rabbit", "shrew", "squirrel")
BLUE, YELLOW = ("grape hyacinth", "bolero deep blue", "monkshood"), ("yellow iris", "daffodil", "sunflower")
BLUE_OF_CODE = ("canterbury bells", "bird of paradise")
YELLOW_OF_CODE = ("english marigold", "moon orchid", "snapdragon", "giant white arum lily")
"""What the numbers in the released code stand for, of which its comments say bluebells, sunflowers and so on."""

NOT_VISUAL = (
    "smelly", "tunnels", "fast", "slow", "agility", "fish", "meat", "plankton", "insects", "forager", "grazer",
    "hunter", "scavenger", "skimmer", "stalker", "solitary",
)  # fmt: skip
"""Attributes of AwA2 that no picture shows."""


class DifferenceTask(NamedTuple):
    """Images by their position in a source, pairs of positions among these, and a true sentence about each pair."""

    images: Int[np.ndarray, " images"]
    pairs: Int[np.ndarray, "pairs 2"]
    sentences: list[str]


def size_task(source: ImageSource, *, seed: int = 0) -> DifferenceTask:
    """Compare large and small animals of CIFAR-100, in every pair of one of each.

    Raises:
      DataError: the source lacks some of the animals.
    """
    return _two_groups(
        source, "CIFAR-100's test images", LARGE, SMALL, seed,
        ("The first image shows a larger animal, while the second image shows a smaller animal.",
         "The first image shows a smaller animal, while the second image shows a larger animal."),
    )  # fmt: skip


def colour_task(source: ImageSource, *, seed: int = 0, paper_code_compat: bool = False) -> DifferenceTask:
    """Compare blue and yellow flowers of Flowers102. The released code has other classes than it says.

    Raises:
      DataError: the source lacks some of the flowers.
    """
    groups = (BLUE_OF_CODE, YELLOW_OF_CODE) if paper_code_compat else (BLUE, YELLOW)
    return _two_groups(
        source, "Flowers102's test images", *groups, seed,
        ("The first image shows a blue flower, while the second image shows a yellow flower.",
         "The first image shows a yellow flower, while the second image shows a blue flower."),
    )  # fmt: skip


def attribute_task(
    source: ImageSource, table: AttributeTable, *, seed: int = 0, paper_code_compat: bool = False
) -> DifferenceTask:
    """Compare animals of AwA2's ten test classes by what only one of both classes has.

    The released code gives the test classes, in alphabetical order, the attributes of the first ten classes of the
    files, and removes in place of each attribute that is not visual the one after it. Sentences are often longer than
    CLIP's context, which cuts what the second image has.

    Raises:
      DataError: the source lacks some of the classes, or the table does.
    """
    names = sorted(TEST_CLASSES)
    chosen = _drawn(source, "AwA2's images", names, seed)
    if paper_code_compat:
        if len(table.classes) < len(names):
            raise DataError(f"the attribute table has {len(table.classes)} classes, not all 50; unpack AwA2 again")
        row = {name: table.classes[place] for place, name in enumerate(names)}
        following = dict(itertools.pairwise(table.attributes))
        removed = {following.get(name) for name in NOT_VISUAL}
    else:
        row, removed = {name: name for name in names}, set(NOT_VISUAL)
    spoken = {_spoken(name): name for name in names}
    of_image = [row[spoken[_spoken(source.classnames[int(place)])]] for place in chosen]
    has = {name: [one for one in table.of(name) if one not in removed] for name in row.values()}
    pairs, sentences = [], []
    for first, second in itertools.combinations(range(len(chosen)), 2):
        a, b = of_image[first], of_image[second]
        # of two classes that have the same attributes no sentence is true
        if set(has[a]) != set(has[b]):
            pairs.append((first, second))
            sentences.append(_attribute_sentence(has[a], has[b]))
    return _task(source, chosen, pairs, sentences)


def written_task(source: ImageSource, texts: Texts, *, count: int = 5000, seed: int = 0) -> DifferenceTask:
    """Draw pairs that differences were written about, such as CUB's birds.

    Raises:
      DataError: there are no differences of these images.
    """
    place = ImageNames(source.ids).place
    found = []
    for subjects, own in texts.pairs().items():
        places = [place(name) for name in subjects]
        if None not in places:
            found.append((*places, own[0]))
    if not found:
        raise DataError(
            f"{source.name}: the texts hold no difference of these {len(source):,} images; have some written about "
            "the test images with `clipjax texts generate` (configs/texts.py:differences, pair_images=200)"
        )
    drawn = [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:count]]
    named = np.array([pair[:2] for pair in drawn])
    images, pairs = np.unique(named, return_inverse=True)
    return DifferenceTask(images, pairs.reshape(named.shape), [text for *_, text in drawn])


def _two_groups(
    source: ImageSource,
    what: str,
    group: Collection[str],
    other: Collection[str],
    seed: int,
    sentences: tuple[str, str],
) -> DifferenceTask:
    chosen = _drawn(source, what, [*group, *other], seed)
    inside = [_spoken(source.classnames[int(place)]) in group for place in chosen]
    pairs = [(i, j) for i, j in itertools.combinations(range(len(chosen)), 2) if inside[i] != inside[j]]
    return _task(source, chosen, pairs, [sentences[0] if inside[i] else sentences[1] for i, _ in pairs])


def _task(
    source: ImageSource, images: Int[np.ndarray, " images"], pairs: list[tuple[int, int]], sentences: list[str]
) -> DifferenceTask:
    if not pairs:
        raise DataError(
            f"{source.name}: of {len(images)} images drawn no two differ in what is asked; give more images"
        )
    return DifferenceTask(images, np.array(pairs), sentences)


def _drawn(source: ImageSource, what: str, names: Sequence[str], seed: int) -> Int[np.ndarray, " images"]:
    """Draw images of some classes, in an order drawn as well."""
    wanted = {_spoken(name) for name in names}
    found = [_spoken(name) for name in source.classnames]
    absent = sorted(wanted - set(found))
    if absent:
        has = f"has the classes {examples(sorted(set(found) - {''}), 6)}" if any(found) else "names no classes"
        raise DataError(
            f"{source.name}: lacks {', '.join(absent)}, and {has}; give {what}, as class folders, a tar with class "
            "names or a TFDS data set"
        )
    places = np.flatnonzero([name in wanted for name in found])
    return np.random.default_rng(seed).permutation(places)[:IMAGES]


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("+", " ").lower().split())


def _attribute_sentence(first: Sequence[str], second: Sequence[str]) -> str:
    sides = ([one for one in first if one not in second], [one for one in second if one not in first])
    told = [f"is {', '.join(side)}" if side else "is none of this" for side in sides]
    return f"The first image {told[0]}, while the second image {told[1]}."
