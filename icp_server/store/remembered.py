"""What was read from a shared database, kept: asked for on every call, changed seldom, and wanted while it is away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar, cast

from icp_server.domain.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Remembered:
    """As fresh as the last write of this process, and the last change of another server that a follower told of."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[int, object]] = {}
        self._generation = 0

    def outdate(self) -> None:
        """Whatever was read may be different by now: ask again, if that is possible."""
        self._generation += 1

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What is known, read again if it is out of date.

        Raises:
            Unavailable: the database is away, and nothing is known.
        """
        known = self._values.get(key)
        if known is not None and known[0] == self._generation:
            return cast("T", known[1])
        asked = self._generation  # what changes while it is read makes it out of date at once
        try:
            value = await read()
        except Unavailable as error:
            if known is None:
                raise
            logger.warning("Answering from what is known error=%s", error.message)
            return cast("T", known[1])
        self._values[key] = (asked, value)
        return value
