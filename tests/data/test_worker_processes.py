import contextlib
import itertools
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipjax.data.batches import ArrayBatches
from clipjax.data.caption_tokens import tokenize_captions
from clipjax.data.folder import open_folder
from clipjax.data.image_batches import ImageBatches
from clipjax.data.mixture import Mixture
from clipjax.data.prepare import prepare
from clipjax.data.samplers import Sequential, Shuffled
from clipjax.data.source import memory_source
from clipjax.data.tar import open_tar
from clipjax.data.tfds import open_tfds
from clipjax.data.views import eval_view, strong_view, train_transform, weak_view
from clipjax.data.worker_processes import with_workers
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import openai_tokenizer

N = 20
TRAIN = train_transform(8, scale=(0.3, 1), flip=0.5)


@pytest.fixture
def images(encoded):
    return [encoded(200 * index, size=12) for index in range(N)]


@pytest.fixture
def source(images):
    return memory_source(images, labels=np.arange(N) % 4)


@contextlib.contextmanager
def opened(batches, first_step=0, **place):
    with contextlib.closing(batches.batches(first_step, **place)) as stream:
        yield stream


def taken(batches, count, first_step=0, **place):
    with opened(batches, first_step, **place) as stream:
        return list(itertools.islice(stream, count))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert {name: array.dtype for name, array in one.items()} == {
            name: array.dtype for name, array in other.items()
        }
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def children():
    """The processes whose parent is this one."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_do_not_depend_on_the_number_of_workers(workers, source):
    captions = tokenize_captions([[f"photo {i}", f"{i} from afar"] for i in range(N)], openai_tokenizer())
    views = {"weak": weak_view(8), "strong": strong_view(8)}
    batches = ImageBatches(source, Shuffled(N, 1), views, 6, 2, captions=captions, threads=0)
    whole = taken(batches, 9)
    assert_same(whole, taken(with_workers(batches, workers), 9))
    tail = taken(with_workers(batches, workers), 4, first_step=5, process=1, processes=2)
    assert_same([{name: batch[name][3:] for name in batch} for batch in whole[5:]], tail)


def test_threads_of_workers_change_nothing(source):
    here = ImageBatches(source, Shuffled(N, 1), TRAIN, 6, 2)
    assert_same(taken(here, 5), taken(ImageBatches(source, Shuffled(N, 1), TRAIN, 6, 2, workers=2, threads=2), 5))


def test_bad_images_are_replaced_listed_and_reported_as_without_workers(images, caplog):
    broken = memory_source([b"bad" if index in (3, 8) else image for index, image in enumerate(images)])
    seen = []
    for workers in (0, 2):
        batches = ImageBatches(broken, Shuffled(N, 1), TRAIN, 5, 0, threads=0, skip_bad=True)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "clipjax"):
            seen.append((taken(with_workers(batches, workers), 9), list(batches.bad_images.items()), caplog.messages))
    assert_same(seen[0][0], seen[1][0])
    assert seen[0][1:] == seen[1][1:]
    assert {index for index, _ in seen[1][1]} == {3, 8}


def test_bad_image_is_an_error_in_the_place_of_its_batch(images):
    broken = memory_source([*images[:7], b"bad", *images[8:]])
    with opened(ImageBatches(broken, Sequential(N), TRAIN, 5, 0, workers=2)) as stream:
        next(stream)
        with pytest.raises(DataError, match=r"000007 in memory: .*--skip-bad"):
            next(stream)


class Broken:
    shape = (8, 8, 3)

    def __call__(self, image, rng, out):
        raise ZeroDivisionError("in the transform")


def test_mistake_in_a_transform_keeps_its_type_and_says_where_it_was(source):
    with pytest.raises(ZeroDivisionError, match="in the transform") as error:
        taken(ImageBatches(source, Shuffled(N, 0), Broken(), 4, 0, workers=1), 1)
    assert "test_worker_processes.py" in error.value.__notes__[0]


class WithoutJax(Broken):
    def __call__(self, image, rng, out):
        out[...] = "jax" in sys.modules or "tensorflow" in sys.modules


def test_sources_of_every_kind_open_again_in_workers_without_jax(images, source, make_folder, make_tar, tmp_path):
    files = {f"{index:02d}.png": image for index, image in enumerate(images)}
    folder = open_folder(make_folder(files))
    prepare(folder, tmp_path / "pets" / "1.0.0", "pets")
    kinds = [source, folder, open_tar(make_tar(files)), open_tfds(tmp_path / "pets" / "1.0.0")]
    for opened_source in kinds:
        opened_source.image(0)  # whatever stays open in this process
    transforms = {"images": eval_view(12), "jax": WithoutJax()}
    parts = tuple(ImageBatches(kind, Sequential(N), transforms, 5, 0, threads=0) for kind in kinds)
    for batch, wanted in zip(taken(Mixture(parts, workers=2), 4), taken(Mixture(parts), 4)):
        np.testing.assert_array_equal(batch["images"], wanted["images"])
        of_each = batch["images"].reshape(5, 4, 12, 12, 3)  # the kinds in turn
        np.testing.assert_array_equal(of_each, np.repeat(of_each[:, :1], 4, axis=1))
        assert not batch["jax"].any()


def test_mixture_with_workers_is_the_one_without(images):
    broken = memory_source([b"bad", *images[1:]])
    parts = [ImageBatches(broken, Shuffled(N, seed), TRAIN, 3 + seed, 0, threads=0, skip_bad=True) for seed in (0, 1)]
    arrays = {"images": np.random.default_rng(0).random((N, 8, 8, 3)).astype(np.float32), "labels": np.arange(N)}
    mixture = Mixture((*parts, ArrayBatches(arrays, Shuffled(N, 5), 4)))
    whole = taken(mixture, 7, first_step=2)
    listed = [dict(part.bad_images) for part in parts]
    for part in parts:
        part.bad_images.clear()
    assert_same(whole, taken(with_workers(mixture, 2), 7, first_step=2))
    assert [part.bad_images for part in parts] == listed != [{}, {}]


def test_fingerprint_knows_nothing_of_workers(source):
    batches = ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0)
    assert with_workers(batches, 3).fingerprint == batches.fingerprint
    assert with_workers(Mixture((batches,)), 3).fingerprint == Mixture((batches,)).fingerprint


def test_closing_and_errors_end_the_workers_and_free_what_they_held(source):
    before, files = children(), len(list(Path("/proc/self/fd").iterdir()))
    batches = ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0, workers=2)
    with opened(batches) as stream:
        next(stream)
        assert len(children() - before) == 2
    assert children() == before
    with pytest.raises(KeyboardInterrupt), opened(batches) as stream:
        next(stream)
        raise KeyboardInterrupt
    assert children() == before
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_batches_outlive_their_workers_and_share_no_memory(source):
    first, second = taken(ImageBatches(source, Sequential(N), TRAIN, N, 0, workers=1), 2)
    assert not np.shares_memory(first["images"], second["images"])
    first["images"][...] = 0
    assert second["images"].any()


def test_dead_worker_is_one_clear_error_and_no_hang(source):
    before = children()
    with opened(ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0, workers=2)) as stream:
        next(stream)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(DataError, match=r"worker process \d of 2 was ended by SIGKILL; if memory ran out, use"):
            for _ in range(20):
                next(stream)
    assert children() == before


def test_too_many_kept_batches_are_one_clear_error(source):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened(ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0, workers=1)) as stream:
        kept = [next(stream)]
        used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, limits[1]))
        try:
            with pytest.raises(DataError, match="each batch that is kept is an open file: keep fewer"):
                kept.extend(itertools.islice(stream, used + 20))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_negative_number_of_workers_is_refused(source):
    with pytest.raises(DataError, match="workers=-1; give the number"):
        taken(ImageBatches(source, Shuffled(N, 0), TRAIN, 4, 0, workers=-1), 1)


def test_what_cannot_be_sent_is_refused(source):
    class Held(Broken):
        def __init__(self):
            self.generator = (number for number in range(3))

    with pytest.raises(DataError, match=r"cannot be sent to worker processes .*; use workers=0"):
        taken(ImageBatches(source, Shuffled(N, 0), Held(), 4, 0, workers=1), 1)


SCRIPT = """
import io, sys
import numpy as np
from PIL import Image
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Sequential
from clipjax.data.source import memory_source

class Mine:  # of the main script, which workers do not run again
    shape = (4, 4, 3)
    def __call__(self, image, rng, out):
        out[...] = 1

buffer = io.BytesIO()
Image.new("RGB", (4, 4)).save(buffer, "PNG")
source = memory_source([buffer.getvalue()] * 8)
batches = ImageBatches(source, Sequential(8), Mine(), 4, 0, workers=2).batches()
next(batches)
print("made", flush=True)
{then}
"""


def start(then):
    command = [sys.executable, "-c", SCRIPT.format(then=then)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def test_script_that_stops_reading_ends():
    # both pipes end only when the workers, which inherited standard error, are gone too
    script = start("")
    output, errors = script.communicate(timeout=60)
    assert (script.returncode, output, errors) == (0, b"made\n", b"")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_script_that_is_stopped_takes_its_workers_along(sent):
    script = start("while True: next(batches)")
    assert script.stdout.readline() == b"made\n"
    os.killpg(script.pid, sent) if sent == signal.SIGINT else script.send_signal(sent)
    _, errors = script.communicate(timeout=60)
    assert script.returncode != 0
    assert errors.count(b"Traceback") == (sent == signal.SIGINT)
