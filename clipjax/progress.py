"""The hook through which long loops report how far they are.

Library code takes a `Progress` argument and wraps its loop in it; what is shown, and where,
is the caller's business (the command line draws a bar on a terminal).
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Progress(Protocol):
    def __call__(
        self, items: Iterable[T], *, total: int | None, label: str, unit: str = "images", step: int = 1
    ) -> Iterator[T]:
        """Yield `items` unchanged; each stands for `step` of `total` units of work."""
        ...


def silent(items: Iterable[T], *, total: int | None, label: str, unit: str = "images", step: int = 1) -> Iterator[T]:
    """Show nothing."""
    yield from items
