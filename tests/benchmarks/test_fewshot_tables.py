"""What the few-shot results say, of results that are made up here."""

import numpy as np
import pytest

from benchmarks import fewshot_tables
from benchmarks.fewshot_data import Opened
from benchmarks.fewshot_tables import key_of, sign_test, signs, table
from benchmarks.fewshot_variants import VARIANTS
from clipjax.classify.problem import Problem
from clipjax.errors import DataError
from clipjax.methods.cached_shots import CachedShots


def measured(label, name, shots, seed, base, new, protocol="base-to-new"):
    return key_of(protocol, name, label, VARIANTS[label], shots, seed), {"base": base, "new": new}


def row(text, title, *columns):
    """The cells of the line that says `columns` after `title`."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return next(cells for cells in lines if cells[: 1 + len(columns)] == [title, *columns])


def test_a_claim_is_counted_over_sets_and_seeds_that_have_both_sides():
    known = dict(
        [
            *(measured("aape", "dtd", 16, seed, base, 50.0) for seed, base in ((1, 60.0), (2, 40.0), (3, 50.0))),
            *(measured("undistilled", "dtd", 16, seed, 50.0, 40.0) for seed in (1, 2, 3)),
            measured("aape", "eurosat", 16, 1, 90.0, 90.0),  # the other side was not run
        ]
    )
    found = signs(known, ["dtd", "eurosat"], [1, 2, 3])
    about = ("AAPE, 16 shots", "AAPE without distillation, 16 shots")
    assert row(found, "2", *about, "base")[4:] == ["3", "1", "1", "0.750"]
    assert row(found, "2", *about, "new")[4:] == ["3", "3", "0", "0.125"]
    assert row(found, "1", "AAPE, MLP aggregator, 16 shots", "AAPE, mean description, 16 shots")[4:] == [
        "0",
        "0",
        "0",
        "",
    ]


def test_harmonic_means_are_compared_and_not_both_halves():
    known = dict([measured("mlp", "dtd", 16, 1, 90.0, 10.0), measured("mean", "dtd", 16, 1, 40.0, 30.0)])
    found = signs(known, ["dtd"], [1])
    assert row(found, "1", "AAPE, MLP aggregator, 16 shots", "AAPE, mean description, 16 shots", "H")[4:6] == ["1", "0"]


def test_one_shot_stands_against_sixteen_and_zero_shot_against_every_seed():
    known = dict(
        [
            *(measured("aape", "dtd", 1, seed, 60.0, 60.0) for seed in (1, 2)),
            *(measured("aape", "dtd", 16, seed, 1.0, 1.0) for seed in (1, 2)),
            *(measured("undistilled", "dtd", 16, seed, 50.0, 50.0) for seed in (1, 2)),
            measured("descriptions", "dtd", 16, 1, 55.0, 55.0),
        ]
    )
    found = signs(known, ["dtd"], [1, 2])
    assert row(found, "3", "AAPE, 1 shots", "AAPE without distillation, 16 shots", "H")[4:6] == ["2", "2"]
    assert row(found, "3", "AAPE, 1 shots", "CuPL (descriptions alone), 1 shots", "H")[4:6] == ["2", "2"]


def test_sign_test_counts_coins():
    assert sign_test(0, 0) == sign_test(0, 5) == 1.0
    assert sign_test(5, 5) == pytest.approx(1 / 32)
    assert sign_test(8, 9) == pytest.approx(10 / 512)


def test_both_averages_of_harmonic_means_are_in_the_table():
    known = dict(
        [
            *(measured("aape", "dtd", 16, seed, base, 30.0) for seed, base in ((1, 80.0), (2, 100.0))),
            *(measured("aape", "eurosat", 16, seed, 50.0, 70.0) for seed in (1, 2)),
        ]
    )
    cells = row(table(known, "base-to-new", ["dtd", "eurosat"], ["aape", "mlp"], 16, [1, 2]), "AAPE")
    assert cells[1:] == ["90.0 ± 14.1", "30.0 ± 0.0", "50.0 ± 0.0", "70.0 ± 0.0", "70.00", "50.00", "58.33", "51.67"]


def test_what_needs_no_shots_depends_on_them_where_the_rest_is_measured():
    key = lambda protocol, name, seed: key_of(protocol, name, "zero_shot", VARIANTS["zero_shot"], 16, seed)
    assert key("base-to-new", "dtd", 1) == key("base-to-new", "dtd", 2)
    assert key("pseudo-new", "dtd", 1) != key("pseudo-new", "dtd", 2)
    assert key("base-to-new", "pacs_photo", 1) != key("base-to-new", "pacs_photo", 2)


@pytest.fixture
def opened():
    """Four classes with three images each in the pool, and one each to measure on; a row's first number names it."""
    labels = np.repeat(np.arange(4), 3)
    rows = np.arange(12.0)[:, None]
    names = tuple("abcd")
    problem = Problem(None, {}, None, names, tuple((name,) for name in names), None)
    pool = CachedShots(rows[:, None], rows, labels, np.eye(4), 1.0)
    return Opened(problem, pool, rows[:4] + 100, np.arange(4), {}, False)


def test_settings_are_chosen_on_images_of_the_pool_that_are_no_shots(opened):
    classes = np.array([2, 1])
    chosen = opened.shots(classes, 2, 1)
    rows, labels = opened.left_over(classes, chosen)
    assert set(rows[:, 0]) == set(range(3, 9)) - set(chosen)
    assert [classes[label] for label in labels] == [int(row // 3) for row in rows[:, 0]]
    with pytest.raises(DataError, match="leave no image of 'c'"):
        opened.left_over(classes, opened.shots(classes, 3, 1))


def test_measured_are_the_test_images_of_some_classes(opened):
    rows, labels = opened.measured(np.array([3, 1]), np.array([0]))
    assert dict(zip(rows[:, 0], labels)) == {103.0: 0, 101.0: 1}


def test_every_claim_is_about_a_variant_and_a_measure():
    for claim in fewshot_tables.CLAIMS:
        assert {claim.better[0], claim.worse[0]} <= set(VARIANTS)
        assert claim.measure in ("base", "new", "H")
