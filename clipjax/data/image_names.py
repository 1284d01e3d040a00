"""Find images by what files call them: their id, or the file name alone where one side knows no folder."""

from collections.abc import Iterable
from pathlib import PurePosixPath


class ImageNames:
    """The names of some images in order, for texts that were written elsewhere and may lack their folders.

    `river/1.jpg` is not `forest/1.jpg`: file names alone count only where one of two names is nothing else.
    """

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
        file = PurePosixPath(name).name
        if name in self._names or file == name:
            return self._names.get(name, self._by_file.get(file))
        # of names without a folder there is one for each file name
        return self._names.get(file) if self._by_file.get(file) is not None else None
