"""What two classifiers say of each test image, kept in a run for its report: no scores, and small pictures of some.

The pictures are of images whose prediction changed, so that a report can show them where the images are out of reach.
"""

import contextlib
import os
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from clipjax.data.source import ImageSource
from clipjax.errors import DataError, OutputError
from clipjax.inputs.image import crop_uint8
from clipjax.outputs import new_file

PREDICTIONS_FILE = "predictions.npz"
PICTURES_FOLDER = "changed"
_OF_A_KIND = 24
_SIDE = 160


@dataclass(frozen=True)
class Predictions:
    """For each test image its class, and the best class of both classifiers with its probability."""

    ids: np.ndarray
    labels: Int[np.ndarray, " images"]
    before: Int[np.ndarray, " images"]
    before_confidence: Float[np.ndarray, " images"]
    after: Int[np.ndarray, " images"]
    after_confidence: Float[np.ndarray, " images"]

    def __post_init__(self):
        """Check that there is one of each for every image.

        Raises:
          DataError: there is not.
        """
        if any(getattr(self, field.name).shape != self.labels.shape for field in fields(self)):
            raise DataError("the predictions are not of one set of images")

    def changed(self) -> dict[str, Int[np.ndarray, " some"]]:
        """Return the images whose prediction changed, by kind, the surest first; a kind may be empty."""
        moved, was, now = self.before != self.after, self.before == self.labels, self.after == self.labels
        kinds = {
            "wrong before, right now": moved & now,
            "right before, wrong now": moved & was,
            "wrong before and otherwise wrong now": moved & ~was & ~now,
        }
        order = lambda rows: rows[np.argsort(-self.after_confidence[rows], kind="stable")]
        return {name: order(np.flatnonzero(mask)) for name, mask in kinds.items()}


def predictions_of(
    ids: list[str],
    labels: Int[np.ndarray, " images"],
    before: Float[np.ndarray, "images classes"],
    after: Float[np.ndarray, "images classes"],
) -> Predictions:
    """Reduce the scores of two classifiers to what is kept."""
    return Predictions(np.array(ids, str), labels.astype(np.int32), *_best(before), *_best(after))


def write_predictions(folder: Path, found: Predictions, images: ImageSource) -> None:
    """Keep predictions, and pictures of the changed images, the surest of each kind, in a run's directory.

    `images` are those that were measured on, in the order of the predictions.

    Raises:
      OutputError: they cannot be written.
    """
    with new_file(folder / PREDICTIONS_FILE, overwrite=True) as staged, staged.open("wb") as file:
        np.savez_compressed(file, **{field.name: getattr(found, field.name) for field in fields(found)})
    pictures = folder / PICTURES_FOLDER
    shutil.rmtree(pictures, ignore_errors=True)
    for rows in found.changed().values():
        for row in rows[:_OF_A_KIND].tolist():
            with contextlib.suppress(DataError):  # it has vanished meanwhile: the report says that it is not there
                _write_picture(picture_file(pictures.parent, row), images, row)


def read_predictions(folder: Path) -> Predictions | None:
    """Read what `write_predictions` kept, None where nothing was measured.

    Raises:
      DataError: the file is damaged.
    """
    path = folder / PREDICTIONS_FILE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return Predictions(**{field.name: content[field.name] for field in fields(Predictions)})
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile and NumPy raise many kinds when a file is damaged
        raise DataError(f"{path}: is damaged ({error}); repeat the run's command to measure again") from None


def picture_file(folder: Path, row: int) -> Path:
    """Return where the picture of a test image is kept."""
    return folder / PICTURES_FOLDER / f"{row:08d}.jpg"


def _best(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = np.asarray(scores, np.float64)
    best = wide.argmax(1)
    highest = np.take_along_axis(wide, best[:, None], axis=1)
    return best.astype(np.int32), (1 / np.exp(wide - highest).sum(1)).astype(np.float32)


def _write_picture(path: os.PathLike, images: ImageSource, row: int) -> None:
    from PIL import Image

    shown = Image.fromarray(crop_uint8(images.image(row), _SIDE))
    try:
        Path(path).parent.mkdir(exist_ok=True)
        shown.save(path, "JPEG", quality=85)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); free some space") from error
