"""Parts of one set of images, each named by a condition: what is learnt from, chosen by, measured on."""

from typing import TYPE_CHECKING

from clipjax.cli.options import conditions
from clipjax.errors import DataError

if TYPE_CHECKING:
    from clipjax.data.source import ImageSource


def part_of(source: "ImageSource", name: str, pair: str) -> "ImageSource":
    """Select the images that the option --`name` asks for, with COLUMN=VALUE.

    Raises:
      DataError: there are none, or the images have no splits and a split is asked for.
    """
    condition = conditions([pair], f"--{name}")
    if "split" in condition and not any(source.splits):
        raise DataError(
            f"{source.name}: has no splits, so none is {pair}; use folders train/ and test/, --splits-file, "
            f"or choose by another column with --{name}"
        )
    return source.where(**condition)
