"""Hear of each update of a source without being kept alive by it, and without leaving a trace when dropped."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from authsec_sdk.spiffe import X509Context, X509ContextSource

__all__ = ["Follower", "listen"]


class Follower(Protocol):
    """Who wants to hear of updates."""

    def on_published(self, context: X509Context, /) -> None:
        """Take note of an update, in the thread of whoever published it, without raising."""
        ...


class _Listening:
    """What a source calls: passes an update on as long as the context lives, and ends itself afterwards."""

    __slots__ = ("__weakref__", "_follower", "_remove")

    def __init__(self, follower: Follower) -> None:
        self._follower = weakref.ref(follower)
        self._remove: Callable[[], None] | None = None

    def start(self, source: X509ContextSource) -> None:
        self._remove = source._add_listener(self)  # the one internal port between sources and TLS

    def end(self) -> None:
        if self._remove is not None:
            self._remove()

    def __call__(self, context: X509Context) -> None:
        follower = self._follower()
        if follower is not None:
            follower.on_published(context)
        else:
            self.end()


_ORPHANS: deque[weakref.ref[_Listening]] = deque()
"""Listenings of contexts that are gone. Finalizers run anywhere, also below a lock of the source, so they only leave
word here; the next context to be made ends them, or they end themselves at the next update."""


def listen(follower: Follower, source: X509ContextSource) -> None:
    """Call `follower.on_published` with each update of `source` until `follower` is dropped."""
    while _ORPHANS:
        try:
            orphan = _ORPHANS.popleft()()
        except IndexError:  # another thread was faster
            break
        if orphan is not None:
            orphan.end()
    listening = _Listening(follower)
    listening.start(source)
    weakref.finalize(follower, _ORPHANS.append, weakref.ref(listening)).atexit = False
