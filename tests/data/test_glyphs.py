import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from clipjax.data.glyph_batches import GlyphBatches
from clipjax.data.glyph_captions import captions
from clipjax.data.glyph_dice import dice_for
from clipjax.data.glyph_fonts import DIGITS, FONTS, LETTERS
from clipjax.data.glyph_shapes import OUTLINES, SHAPES
from clipjax.data.glyph_strokes import HANDWRITTEN_LETTERS, write
from clipjax.data.glyphs import draw
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import openai_tokenizer

SCENES = 1500


@pytest.fixture(scope="module")
def scenes():
    return [draw(position, seed=7) for position in range(SCENES)]


def batches(**changes):
    settings = {"size": 16, "batch_size": 4, "seed": 3, "tokenizer": openai_tokenizer(), "length": 12}
    return GlyphBatches(**settings | {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3), "workers": 0} | changes)


def first(count, stream):
    return list(islice(stream, count))


def assert_same(one, other):
    for key in ("images", "tokens"):
        np.testing.assert_array_equal(one[key], other[key])


def test_a_position_always_shows_the_same_scene(scenes):
    # in another order, after other scenes
    for position in (900, 3, 41):
        again = draw(position, seed=7)
        assert again.marks == scenes[position].marks
        np.testing.assert_array_equal(again.image, scenes[position].image)


def test_another_seed_shows_another_world(scenes):
    other = [draw(position, seed=8) for position in range(20)]
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(scenes, other))


@pytest.mark.parametrize("size", [16, 32, 48])
def test_images_are_bytes_of_the_size_asked_for(size):
    image = draw(0, seed=0, size=size).image
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)


def test_about_half_of_the_scenes_show_a_digit_and_a_third_of_those_are_handwritten(scenes):
    digits = [scene.marks[0] for scene in scenes if scene.marks[0].kind == "digit"]
    assert 0.45 < len(digits) / SCENES < 0.65
    assert 0.3 < np.mean(["handwritten" in mark.styles for mark in digits]) < 0.5


def test_every_digit_letter_and_shape_appears(scenes):
    seen = Counter((mark.kind, mark.name) for scene in scenes for mark in scene.marks)
    expected = {("digit", name) for name in DIGITS} | {("shape", name) for name in SHAPES}
    expected |= {("letter", name) for name in LETTERS}
    assert set(seen) == expected


def test_scenes_called_grayscale_and_no_others_have_no_colour(scenes):
    for scene in scenes:
        gray = bool(np.all(scene.image == scene.image[:, :, :1]))
        assert ("grayscale" in scene.qualities) == gray


def test_every_scene_shows_something(scenes):
    assert min(scene.image.astype(float).std() for scene in scenes) > 2


def test_a_mark_is_where_its_place_says(scenes):
    # on a plain background of another colour, the pixels that differ from the corner are the mark
    for scene in scenes:
        mark = scene.marks[0]
        if len(scene.marks) > 1 or scene.texture or "noisy" in scene.qualities or "left" not in mark.place:
            continue
        ink = np.abs(scene.image.astype(float) - scene.image[-1, -1]).sum(2)
        centre = (ink.sum(0) * np.arange(len(ink))).sum() / ink.sum()
        assert centre < len(ink) / 2, mark


@pytest.mark.parametrize("name", [*DIGITS, *HANDWRITTEN_LETTERS])
def test_handwriting_never_repeats_itself_and_stays_near_its_box(name):
    dice = dice_for(0, 0)
    written = [np.concatenate(write(name, dice)) for _ in range(20)]
    assert len({stroke.tobytes() for stroke in written}) == 20
    assert all(stroke.min() > -0.5 and stroke.max() < 1.5 for stroke in written)


def test_outlines_lie_in_a_box_of_side_one():
    for outline in OUTLINES.values():
        assert np.abs(outline).max() <= 0.75


def test_every_font_is_one_that_matplotlib_ships():
    import matplotlib

    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert all((shipped / f"{font.file}.ttf").is_file() for font in FONTS)


def test_a_batch_holds_the_scenes_of_its_positions_normalised():
    batch = next(batches().batches(5))
    for row, image in enumerate(batch["images"]):
        scene = draw(5 * 4 + row, seed=3, size=16)
        expected = (scene.image / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.25, 0.3])
        np.testing.assert_allclose(image, expected, atol=1e-5)
    assert (batch["images"].dtype, batch["tokens"].dtype) == (np.float32, np.int32)


def test_a_batch_holds_a_caption_of_each_scene():
    batch = next(batches().batches(5))
    texts = [captions(draw(20 + row, seed=3, size=16), dice_for(3, 20 + row, 1).generator) for row in range(4)]
    np.testing.assert_array_equal(batch["tokens"], openai_tokenizer()(texts, 12))


def test_resuming_at_a_step_gives_the_batch_of_that_step():
    assert_same(first(4, batches().batches())[3], next(batches().batches(3)))


def test_processes_share_a_batch_in_order():
    whole = next(batches().batches(2))
    parts = [next(batches().batches(2, process=process, processes=2)) for process in range(2)]
    assert_same(whole, {key: np.concatenate([part[key] for part in parts]) for key in whole})


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    ahead = batches(workers=workers).batches(1)
    for one, other in zip(first(4, batches().batches(1)), ahead):
        assert_same(one, other)
    ahead.close()


def test_processes_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(DataError, match="4 images cannot be shared by 3 processes"):
        batches().batches(process=0, processes=3)


@pytest.mark.parametrize("change", [{"seed": 4}, {"size": 24}, {"batch_size": 8}, {"length": 13}, {"mean": (0, 0, 0)}])
def test_the_fingerprint_follows_what_batches_hold(change):
    assert batches(**change).fingerprint != batches().fingerprint


def test_the_fingerprint_ignores_the_number_of_workers():
    assert batches(workers=3).fingerprint == batches().fingerprint


SCRIPT = """
from clipjax.data.glyph_batches import GlyphBatches
from clipjax.inputs.tokenizer import openai_tokenizer
batches = GlyphBatches(16, 4, 0, openai_tokenizer(), 12, (0, 0, 0), (1, 1, 1)).batches()
next(batches)
print("drawn", flush=True)
{then}
"""


def start(then):
    command = [sys.executable, "-c", SCRIPT.format(then=then)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def test_a_script_that_stops_reading_ends():
    # both pipes end only when the worker, which inherited them, is gone too
    script = start("")
    _, errors = script.communicate(timeout=60)
    assert (script.returncode, errors) == (0, b"")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_script_that_is_stopped_takes_its_worker_along(sent):
    script = start("while True: next(batches)")
    assert script.stdout.readline() == b"drawn\n"
    if sent == signal.SIGINT:
        os.killpg(script.pid, sent)  # as a terminal does: to the worker as well
    else:
        script.kill()
    _, errors = script.communicate(timeout=60)
    assert script.returncode != 0
    assert errors.count(b"Traceback") == (sent == signal.SIGINT)
