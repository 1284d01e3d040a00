"""Connections that bring no request in time, or take no answer, are closed; uvicorn itself waits for ever."""

import asyncio
from typing import Any

SECONDS = 20.0
"""So long the lines and headers of a request may take to arrive, and an answer may lie without a byte being taken."""

SEND_BUFFER = 1 << 16
"""Bytes of an answer that the system holds for a connection; only when some are gone is it seen that somebody reads."""


def impatient_protocol(seconds: float = SECONDS) -> type[asyncio.Protocol]:
    """Make HTTP/1.1 for uvicorn that closes connections where a request's head is late or an answer is not read.

    Bodies of requests are timed where they are read.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _late: asyncio.TimerHandle | None = None
        _stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # any byte that is left is watched
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop()
            self._unstick()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._check(None)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._unstick()

        def _check(self, before: int | None) -> None:
            left = self.transport.get_write_buffer_size()
            if left == before:
                self.transport.abort()
            else:
                self._stuck = self.loop.call_later(seconds, self._check, left)

        def _unstick(self) -> None:
            if self._stuck is not None:
                self._stuck.cancel()
            self._stuck = None

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
