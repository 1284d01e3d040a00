"""Connections that bring no request in time are closed; uvicorn itself waits for ever."""

import asyncio
from typing import Any

SECONDS = 20.0
"""So long the lines and headers of a request may take to arrive."""


def impatient_protocol(seconds: float = SECONDS) -> type[asyncio.Protocol]:
    """Make HTTP/1.1 for uvicorn that closes a connection where the head of a request takes too long.

    Bodies are timed where they are read.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop()

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()
            elif self._late is None:
                self._late = self.loop.call_later(seconds, self._give_up)

        def _stop(self) -> None:
            if self._late is not None:
                self._late.cancel()
            self._late = None

        def _give_up(self) -> None:
            self._late = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Impatient
