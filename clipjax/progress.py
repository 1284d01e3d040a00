"""The hook through which long loops report how far they are.

Library code takes a `Progress` argument and wraps its loop in it; what is shown, and where,
is the caller's business (the command line draws a bar on a terminal).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")

Label = str | Callable[[], str]


@runtime_checkable
class Progress(Protocol):
    def __call__(
        self, items: Iterable[T], *, total: int | None, label: Label, unit: str = "images", step: int = 1
    ) -> Iterator[T]:
        """Yield `items` unchanged; each stands for `step` of `total` units of work.

        A label that changes with the work, such as what it has cost so far, is a function.
        """
        ...


def silent(items: Iterable[T], *, total: int | None, label: Label, unit: str = "images", step: int = 1) -> Iterator[T]:
    """Show nothing."""
    yield from items
