"""Find images by what files call them: their id, or the file name alone where only one image has it."""

from collections.abc import Iterable
from pathlib import PurePosixPath


class ImageNames:
    """The names of some images in order, for texts that were written elsewhere and may lack their folders."""

    def __init__(self, names: Iterable[str]):
        self._names: dict[str, int] = {}
        self._by_file: dict[str, int | None] = {}
        for name in names:
            if name not in self._names:
                self._names[name] = len(self._names)
                file = PurePosixPath(name).name
                # two images of one file name cannot be told apart by it
                self._by_file[file] = None if file in self._by_file else self._names[name]

    def place(self, name: str) -> int | None:
        """Return where an image is in the order; None if it is not there or several share its file name."""
        place = self._names.get(name)
        return self._by_file.get(PurePosixPath(name).name) if place is None else place
