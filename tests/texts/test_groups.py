import numpy as np
import pytest
from PIL import Image

from clipjax.texts.groups import CANVAS, GAP, draw_groups, draw_pairs, group_canvas, pair_canvas

COLOURS = ["red", "lime", "blue", "yellow"]


def test_groups_are_drawn_within_the_label_without_replacement():
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2)
    groups = draw_groups(labels, seed=1)
    assert groups.shape == (17, 4)
    assert (labels[groups] == labels[:, None]).all()
    assert all(len(set(group)) == 4 for group in groups[:15])
    assert set(groups[15:].ravel()) <= {15, 16}


def test_groups_depend_on_the_seed_alone():
    labels = np.arange(40) % 2
    assert (draw_groups(labels, seed=1) == draw_groups(labels, seed=1)).all()
    assert (draw_groups(labels, seed=1) != draw_groups(labels, seed=2)).any()


def test_every_member_is_drawn_equally_often():
    drawn = np.bincount(draw_groups(np.zeros(400, int)).ravel(), minlength=400)
    assert drawn.sum() == 1600
    assert drawn.std() == pytest.approx(2, rel=0.2)  # nearly Poisson of mean 4


def test_the_canvas_has_a_cell_for_each_image_and_a_black_gap():
    pixels = np.asarray(group_canvas([Image.new("RGB", (30, 30), colour) for colour in COLOURS]))
    assert pixels.shape == (CANVAS, CANVAS, 3)
    cell = (CANVAS - GAP) // 2
    corners = [(0, 0), (0, cell + GAP), (cell + GAP, 0), (cell + GAP, cell + GAP)]
    for (top, left), colour in zip(corners, COLOURS):
        expected = np.asarray(Image.new("RGB", (cell, cell), colour))
        assert (pixels[top : top + cell, left : left + cell] == expected).all()
    assert pixels[cell : cell + GAP].max() == pixels[:, cell : cell + GAP].max() == 0


def test_the_canvas_keeps_proportions_and_centres():
    white = Image.new("RGB", (200, 100), "white")
    pixels = np.asarray(group_canvas([white] * 4))[..., 0]
    cell = (CANVAS - GAP) // 2
    rows = np.flatnonzero(pixels[:cell, cell // 2] > 128)
    assert (rows[0], rows[-1]) == ((cell - cell // 2) // 2, (cell - cell // 2) // 2 + cell // 2 - 1)


@pytest.mark.parametrize(("images", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_groups_of_any_size_fill_a_square_row_by_row(images, columns):
    pixels = np.asarray(group_canvas([Image.new("RGB", (9, 9), "white")] * images))[..., 0]
    cell = (CANVAS - GAP * (columns - 1)) // columns
    middles = [place * (cell + GAP) + cell // 2 for place in range(columns)]
    shown = pixels[np.ix_(middles, middles)].ravel() > 128
    assert shown.tolist() == [True] * images + [False] * (columns**2 - images)


def test_a_group_without_images_has_no_picture():
    with pytest.raises(ValueError, match="without images"):
        group_canvas([])


def test_a_pair_stands_side_by_side():
    pixels = np.asarray(pair_canvas(Image.new("L", (10, 20), 255), Image.new("RGB", (10, 10), "red")))
    assert pixels.shape == (20, 10 + GAP + 20, 3)
    assert (pixels[:, :10] == 255).all() and (pixels[:, 10 : 10 + GAP] == 0).all()
    assert (pixels[:, -20:] == [255, 0, 0]).all()


@pytest.mark.parametrize(("images", "count"), [(2, 5), (7, 21), (50, 100), (3000, 500)])
def test_pairs_are_different_and_ordered_both_ways(images, count):
    pairs = draw_pairs(images, count, seed=3)
    assert len(pairs) == min(count, images * (images - 1) // 2)
    assert pairs.min() >= 0 and pairs.max() < images
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
    if len(pairs) > 20:
        assert 0.3 < (pairs[:, 0] < pairs[:, 1]).mean() < 0.7


def test_all_pairs_of_a_few_images_are_found():
    assert {frozenset(pair) for pair in draw_pairs(5, 99).tolist()} == {
        frozenset((i, j)) for j in range(5) for i in range(j)
    }
