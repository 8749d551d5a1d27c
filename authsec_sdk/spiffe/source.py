"""Where whoever makes TLS connections and whoever fetches identities meet, knowing nothing of each other."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from authsec_sdk.errors import NotReadyError, SourceClosedError
from authsec_sdk.spiffe.context import X509Context

__all__ = ["X509ContextHolder", "X509ContextListener", "X509ContextSource"]

X509ContextListener: TypeAlias = Callable[[X509Context], None]


class X509ContextSource(Protocol):
    """Anything that always knows the newest identity and bundles."""

    @property
    def x509_context(self) -> X509Context:
        """The newest context. Never blocks, and may be read from every thread.

        Raises:
            NotReadyError: none has arrived yet.
            SourceClosedError: the source was closed.
        """
        ...

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        """Call `listener` with every context from now on, in the publisher's thread; returns what ends that.

        For `authsec_sdk.tls` alone, which builds the next generation there, off the application's threads. The newest
        context is already published when the listener runs. Contexts published before are not told again.
        """
        ...


class X509ContextHolder:
    """A source in memory: holds what its owner publishes. For servers, agents and tests; safe among threads."""

    def __init__(self, context: X509Context | None = None, *, observer: Callable[[Any], None] | None = None) -> None:
        self.observer = observer  # of the TLS contexts over this source: see `authsec_sdk.telemetry`
        self._context = context
        self._closed = False
        self._listeners: tuple[X509ContextListener, ...] = ()
        self._publishing = threading.RLock()
        _HOLDERS.add(self)

    @property
    def x509_context(self) -> X509Context:
        """The context published last.

        Raises:
            NotReadyError: none was published yet.
            SourceClosedError: `close` was called.
        """
        context = self._context
        if self._closed:
            raise SourceClosedError("this source of identities is closed")
        if context is None:
            raise NotReadyError("no identity has been published yet: wait for the first update")
        return context

    def publish(self, context: X509Context) -> None:
        """Make `context` the newest one and tell every listener, one after the other, in this thread.

        Raises:
            SourceClosedError: `close` was called.
            ExceptionGroup: listeners failed. The context is published, and every other listener was told.
        """
        failures: list[Exception] = []
        with self._publishing:  # so that listeners hear of contexts in the order in which they became the newest
            if self._closed:
                raise SourceClosedError("this source of identities is closed and takes no further context")
            self._context = context
            for listener in self._listeners:
                try:
                    listener(context)
                except Exception as error:  # noqa: BLE001 - one listener's trouble is not to be another's
                    failures.append(error)
        if failures:
            raise ExceptionGroup("listeners failed to take the new identity", failures)

    def close(self) -> None:
        """Forget the context and all listeners. May be called again."""
        with self._publishing:
            self._closed = True
            self._context = None
            self._listeners = ()

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        def entry(context: X509Context) -> None:  # an object of this call, so that only it is removed
            listener(context)

        def remove() -> None:
            with self._publishing:
                self._listeners = tuple(known for known in self._listeners if known is not entry)

        with self._publishing:
            if not self._closed:
                self._listeners = (*self._listeners, entry)
        return remove


_HOLDERS: weakref.WeakSet[X509ContextHolder] = weakref.WeakSet()


def _renew_locks() -> None:
    """Give every holder a free lock in a forked child: the thread that held the old one exists in the parent only."""
    for holder in tuple(_HOLDERS):
        holder._publishing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
