"""What happens to sources when the process forks: the child lets go of the parent's streams before anything else.

A forked child holds duplicates of the parent's connections and could read the keys which the agent sends there
(threat model 11). It must not close them politely either: an HTTP/2 goodbye would end the parent's stream. So each
inherited descriptor is replaced, in the child, by one of `/dev/null`: nothing is read or sent, and the numbers stay
taken, so that no object of the parent that is finalized in the child can close a descriptor opened later.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["AtFork", "at_fork"]

_PATIENCE = 5.0  # seconds that a fork waits for a critical section; longer means that somebody's callback hangs


class AtFork:
    """The locks, descriptors and listeners of this package which a fork concerns. There is one, `at_fork`."""

    def __init__(self) -> None:
        # Reentrant, because a signal handler may fork in the middle of a critical section of its own thread.
        self.lock = threading.RLock()
        self._busy = threading.RLock()
        self._held: list[threading.RLock] = []
        self._descriptors: list[Callable[[], Iterable[int]]] = []
        self._in_child: list[Callable[[], None]] = []

    @contextmanager
    def delayed(self) -> Iterator[None]:
        """Hold back forks for the moment: for work that leaves the child a lock nobody releases, or a descriptor
        nobody knows of. Never around code that may wait for other threads.
        """
        with self._busy:
            yield

    def register(self, descriptors: Callable[[], Iterable[int]], in_child: Callable[[], None]) -> None:
        """Say which descriptors a child must let go of, and what to call there afterwards. For ever."""
        self._descriptors.append(descriptors)
        self._in_child.append(in_child)

    def before(self) -> None:
        """Wait until no critical section is under way, so that the child inherits none half done."""
        self._held = [lock for lock in (self._busy, self.lock) if lock.acquire(timeout=_PATIENCE)]

    def after_in_parent(self) -> None:
        """Go on."""
        held, self._held = self._held, []
        for lock in held:
            lock.release()

    def after_in_child(self) -> None:
        """Let go of the parent's descriptors, take new locks, and tell everybody."""
        self._replace_descriptors()
        self.lock, self._busy, self._held = threading.RLock(), threading.RLock(), []
        for tell in self._in_child:
            tell()

    def _replace_descriptors(self) -> None:
        try:
            sink: int | None = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # no /dev/null in this root: closing is the second best
            sink = None
        for descriptors in self._descriptors:
            for descriptor in descriptors():
                try:
                    if sink is None:
                        os.close(descriptor)
                    else:
                        os.dup2(sink, descriptor, inheritable=False)
                except OSError:  # closed meanwhile
                    continue
        if sink is not None:
            os.close(sink)


at_fork = AtFork()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=at_fork.before,
        after_in_parent=at_fork.after_in_parent,
        after_in_child=at_fork.after_in_child,
    )
