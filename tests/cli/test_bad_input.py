"""Whatever is wrong with the input: one line that names the file and the remedy, and nothing left behind."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from picture_folders import write_pictures
from small_models import small_clip

from clipjax import outputs
from clipjax.weights.save import save


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def output(tmp_path):
    """A place for results, which must stay empty."""
    folder = tmp_path / "results"
    folder.mkdir()
    yield folder
    assert everything(folder) == []


HOSTILE = [
    "pt_01_reduce_system.pt",
    "pt_08_bare_pickle.pt",
    "pt_11_traversal_member.pt",
    "pt_14_truncated_half.pt",
    "pt_21_expanded_bomb.pt",
    "pt_26_deflate_bomb.pt",
    "pt_31_empty_file.pt",
    "pt_32_html.pt",
    "pt_33_lfs_pointer.pt",
    "pt_36_nan.pt",
    "pt_39_unexpected_key.pt",
    "hf_01_header_length_huge",
    "hf_08_duplicate_key",
    "hf_14_truncated_data",
    "hf_22_missing_key",
    "hf_24_transposed_projection",
    "hf_25_wrong_context",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoints_are_refused(name, shared_data, output, clipjax, complains, monkeypatch):
    monkeypatch.chdir(output)
    complains(clipjax("convert", shared_data / "golden/hostile" / name, output / "new"), name)


@pytest.mark.parametrize("command", ["inspect", "convert", "zeroshot", "embed", "retrieve", "probe"])
@pytest.mark.parametrize("kind", ["missing", "empty", "notes"])
def test_place_without_weights_is_named(kind, command, photos, tmp_path, output, clipjax, complains):
    path = tmp_path / kind
    if kind != "missing":
        path.mkdir()
    if kind == "notes":
        (path / "notes.txt").write_text("no weights")
    (tmp_path / "captions.json").write_text(
        json.dumps({f"{c}/{n}.png": ["a"] for c in ("red_panda", "green_tree", "blue_sky") for n in range(4)})
    )
    images = ["--weights", path, "--images", photos]
    arguments = {
        "inspect": [path],
        "convert": [path, output / "new"],
        "zeroshot": images,
        "embed": [*images, "-o", output / "e.npz"],
        "retrieve": [*images, "--captions", tmp_path / "captions.json"],
        "probe": [*images, "--train", "id=red_panda/0.png", "--test", "id=red_panda/1.png"],
    }
    complains(clipjax(command, *arguments[command]), path, "no such" if kind == "missing" else "no weights here")


def test_shapes_that_contradict_the_configuration_are_named(checkpoint, tmp_path, output, clipjax, complains):
    shutil.copytree(checkpoint, tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    config["vision_config"]["hidden_size"] *= 2
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    result = clipjax("convert", tmp_path / "odd", output / "new")
    complains(result, tmp_path / "odd", "shape", "configuration")


@pytest.mark.parametrize("command", ["zeroshot", "embed", "probe", "data"])
@pytest.mark.parametrize("kind", ["missing", "empty", "compressed.tar", "text.tar"])
def test_place_without_images_is_named(kind, command, checkpoint, tmp_path, output, clipjax, complains):
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "compressed.tar":
        path.write_bytes(b"\x1f\x8b" + bytes(2000))
    elif kind == "text.tar":
        path.write_text("no tar")
    arguments = {
        "zeroshot": ["--weights", checkpoint, "--images", path],
        "embed": ["--weights", checkpoint, "--images", path, "-o", output / "e.npz"],
        "probe": ["--weights", checkpoint, "--images", path],
        "data": ["prepare", path, output / "tfds", "--name", "data"],
    }
    complains(clipjax(command, *arguments[command]), path)


@pytest.mark.parametrize("command", ["zeroshot", "embed", "probe"])
def test_bad_image_in_the_middle_is_named_with_the_remedy(
    command, checkpoint, broken_photos, output, clipjax, complains
):
    arguments = {
        "zeroshot": ["-o", output / "p.csv"],
        "embed": ["-o", output / "e.npz"],
        "probe": ["--train", "classname=green_tree", "--test", "classname=red_panda"],
    }
    result = clipjax(command, "--weights", checkpoint, "--images", broken_photos, *arguments[command])
    complains(result, "green_tree/1.png", broken_photos, "--skip-bad")


def test_nothing_but_bad_images_is_an_error_even_when_they_are_skipped(
    checkpoint, tmp_path, output, clipjax, complains
):
    (tmp_path / "bad").mkdir()
    for name in "ab":
        (tmp_path / "bad" / f"{name}.png").write_bytes(b"\x89PNG")
    result = clipjax(
        "embed", "--weights", checkpoint, "--images", tmp_path / "bad", "-o", output / "e.npz", "--skip-bad"
    )
    complains(result, tmp_path / "bad", "not one of 2 images")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("cat\ndog\nemu\n", ["'blue_sky', 'green_tree', 'red_panda' are not in the class list", "JSON object"]),
        ("red panda\nblue sky\n", ["'green_tree' are not in the class list"]),
        ("", ["c.txt: holds no class names"]),
        ("red panda\n\nblue sky\n", ["c.txt: class 1 is ''"]),
        ("cat\ncat\n", ["are not in the class list ('cat (0)', 'cat (1)')"]),
        ('{"one": ["a", "b"], "two": ["c", "d"]}', ["c.txt: holds several lists", "'one', 'two'"]),
        ('["cat", "dog"', ["c.txt: line 1 is not valid JSON"]),
    ],
)
def test_class_names_that_do_not_fit_are_shown(
    content, parts, checkpoint, photos, tmp_path, output, clipjax, complains
):
    (tmp_path / "c.txt").write_text(content)
    result = clipjax(
        "zeroshot", "--weights", checkpoint, "--images", photos, "--classes", tmp_path / "c.txt", "--labels",
        "-o", output / "p.csv",
    )  # fmt: skip
    complains(result, *parts)


@pytest.mark.parametrize("images", ["eurosat", "dtd_10classes"])
def test_list_of_as_many_other_classes_is_not_taken_for_the_right_one(
    images, checkpoint, shared_data, output, clipjax, complains
):
    result = clipjax(
        "zeroshot", "--weights", checkpoint, "--images", shared_data / f"data/images/{images}.tar", "--labels",
        "--classes", f"{shared_data}/testbed/classes.json:cifar10", "-o", output / "p.csv",
    )  # fmt: skip
    complains(result, f"{images}.tar", "are not in the class list ('airplane', 'automobile', 'bird' and 7 more)")


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("", "''"),
        ("a photo", "'a photo' is neither a template nor a file"),
        ("a {} of {name}", "other braces than {}"),
        ("t.txt", "t.txt: the template 'a photo of' has no place for the class name; write {} there"),
        ("e.txt", "e.txt: holds no list of templates"),
        ("t.json:other", "t.json: no entry 'other'; the keys are 'set'"),
    ],
)
def test_templates_that_cannot_be_filled_are_shown(
    template, part, checkpoint, photos, tmp_path, output, clipjax, complains, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("a {}\na photo of\n")
    Path("e.txt").write_text("")
    Path("t.json").write_text('{"set": ["a {}"]}')
    result = clipjax(
        "zeroshot", "--weights", checkpoint, "--images", photos, "--template", template, "-o", output / "p.csv"
    )
    complains(result, part)


@pytest.mark.parametrize("content", ["{", "[]", '{"red panda": ["It is red."]}', '{"red panda": 1}'])
def test_descriptions_that_cannot_be_used_are_named(content, checkpoint, photos, tmp_path, output, clipjax, complains):
    (tmp_path / "d.json").write_text(content)
    result = clipjax(
        "zeroshot", "--weights", checkpoint, "--images", photos, "--descriptions", tmp_path / "d.json",
        "-o", output / "p.csv",
    )  # fmt: skip
    complains(result, tmp_path / "d.json")


def test_folder_without_classes_needs_a_list_of_them(checkpoint, photos, output, clipjax, complains):
    result = clipjax("zeroshot", "--weights", checkpoint, "--images", photos / "red_panda", "-o", output / "p.csv")
    complains(result, photos / "red_panda", "--classes")


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ("split=train", "no image has split=train"),
        ("colour=red", "no column 'colour'; the columns are"),
        ("self=1", "no column 'self'"),
        ("classname", "write COLUMN=VALUE"),
        ("classname=cow", "the values are 'blue_sky', 'green_tree', 'red_panda'"),
    ],
)
def test_selection_that_fits_nothing_says_what_there_is(
    condition, part, checkpoint, photos, output, clipjax, complains
):
    result = clipjax("embed", "--weights", checkpoint, "--images", photos, "--where", condition, "-o", output / "e.npz")
    complains(result, part)


@pytest.mark.parametrize(("tower", "option"), [("image", "--images"), ("text", "--texts")])
def test_checkpoint_without_the_tower_that_is_needed_is_named(
    tower, option, photos, tmp_path, output, clipjax, complains
):
    save(tmp_path / "half", *(small_clip(vision=None) if tower == "image" else small_clip(text=None)))
    (tmp_path / "t.txt").write_text("a cat\n")
    argument = photos if tower == "image" else tmp_path / "t.txt"
    result = clipjax("embed", "--weights", tmp_path / "half", option, argument, "-o", output / "e.npz")
    complains(result, tmp_path / "half", f"has no {tower} tower")


def test_model_with_another_vocabulary_asks_for_its_tokenizer(photos, tmp_path, output, clipjax, complains):
    save(tmp_path / "own", *small_clip())
    result = clipjax("zeroshot", "--weights", tmp_path / "own", "--images", photos, "-o", output / "p.csv")
    complains(result, tmp_path / "own", "40 tokens", "tokenizer.json")


@pytest.mark.parametrize("content", [b"", b"a cat\n\na dog\n", b"caf\xe9\n"])
def test_texts_that_cannot_be_used_are_named(content, checkpoint, tmp_path, output, clipjax, complains):
    (tmp_path / "t.txt").write_bytes(content)
    result = clipjax("embed", "--weights", checkpoint, "--texts", tmp_path / "t.txt", "-o", output / "e.npz")
    complains(result, tmp_path / "t.txt")


WRITERS = ["convert", "embed", "zeroshot", "data"]


def write_to(command, path, checkpoint, photos):
    """The arguments that make a command write to `path`."""
    return {
        "convert": ["convert", checkpoint, path],
        "embed": ["embed", "--weights", checkpoint, "--images", photos, "-o", path.with_suffix(".npz")],
        "zeroshot": ["zeroshot", "--weights", checkpoint, "--images", photos, "-o", path],
        "data": ["data", "prepare", photos, path, "--name", "photos"],
    }[command]


@pytest.mark.parametrize("command", WRITERS)
def test_output_that_exists_stays_as_it_is(command, checkpoint, photos, tmp_path, clipjax, complains):
    arguments = write_to(command, tmp_path / "old", checkpoint, photos)
    path = Path(tmp_path / "old.npz" if command == "embed" else tmp_path / "old")
    path.write_text("precious")
    complains(clipjax(*arguments), path, "exists already", "--overwrite")
    assert path.read_text() == "precious"
    assert everything(tmp_path) == [path.name]


@pytest.mark.parametrize("command", WRITERS)
def test_output_below_a_file_is_refused(command, checkpoint, photos, tmp_path, clipjax, complains):
    (tmp_path / "file").write_text("no directory")
    complains(clipjax(*write_to(command, tmp_path / "file" / "new", checkpoint, photos)), "file is a file")


@pytest.mark.parametrize("command", WRITERS)
def test_place_that_is_not_writable_is_refused_before_the_work(
    command, checkpoint, photos, output, clipjax, complains, monkeypatch
):
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    complains(clipjax(*write_to(command, output / "new", checkpoint, photos)), output, "not writable", "another place")


@pytest.mark.parametrize("command", WRITERS)
def test_place_that_only_turns_out_to_be_read_only_is_named(
    command, checkpoint, photos, output, clipjax, complains, monkeypatch
):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(outputs.tempfile, "mkdtemp", refuse)
    complains(clipjax(*write_to(command, output / "new", checkpoint, photos)), output / "new", "Read-only file system")


def limited(arguments, limit):
    """Run a command that may write files of at most `limit` bytes, as on a disk that is full."""
    program = (
        "import resource, sys; from clipjax.cli.main import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(main())"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("command", WRITERS)
def test_full_disk_is_one_line_and_leaves_nothing(command, checkpoint, photos, output):
    done = limited(write_to(command, output / "new", checkpoint, photos), 100)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(output / "new") in done.stderr
    assert "free some space or write elsewhere" in done.stderr


def test_full_disk_is_said_before_orbax_begins(checkpoint, output, clipjax, complains, monkeypatch):
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    result = clipjax("convert", checkpoint, output / "new", "--format", "orbax")
    complains(result, output / "new", "the disk is full", "are needed")


def test_pieces_that_find_no_room_are_named(checkpoint, tmp_path, clipjax, complains, monkeypatch):
    from clipjax.classify import embedding_job

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    photos = write_pictures(tmp_path / "photos")
    monkeypatch.setattr(embedding_job, "SECONDS_PER_PIECE", -1.0)
    monkeypatch.setattr(embedding_job.np, "savez", full)
    result = clipjax("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.npz")
    complains(result, "e.npz.parts/images-000000.npz: the disk is full")
    assert not (tmp_path / "e.npz").exists()
