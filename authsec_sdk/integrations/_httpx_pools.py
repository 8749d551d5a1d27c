"""Connection pools for httpx that are left behind when identities rotate, and closed when their last answer is read."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx

from authsec_sdk.errors import SpiffeError
from authsec_sdk.tls import SpiffeSSLContext, peer_spiffe_id

__all__ = ["AsyncRecycledPools", "RecycledPools"]


class _Pool:
    """One generation's connections, and how many requests use them."""

    def __init__(self, transport: Any, generation: int | None) -> None:
        self.transport = transport
        self.generation = generation
        self.active = 0


class _Books:
    """Which pool is the newest, and which older ones are still in use. Does no IO; safe among threads."""

    def __init__(self, context: SpiffeSSLContext, make: Callable[[], Any]) -> None:
        self._context = context
        self._make = make
        self._lock = threading.Lock()
        self._newest = _Pool(make(), None)
        self._older: set[_Pool] = set()

    def enter(self) -> tuple[_Pool, Any]:
        """Return the pool for a request, and the transport that is to be closed now, if any."""
        generation: int | None
        try:
            generation = self._context.generation
        except SpiffeError:  # then what there is goes on, and a new connection says what is wrong
            generation = None
        idle = None
        with self._lock:
            if self._newest.generation is None:
                self._newest.generation = generation
            elif generation is not None and generation > self._newest.generation:
                old, self._newest = self._newest, _Pool(self._make(), generation)
                if old.active:
                    self._older.add(old)
                else:
                    idle = old.transport
            self._newest.active += 1
            return self._newest, idle

    def leave(self, pool: _Pool) -> Any:
        """Take note that a request ended; return the transport that is to be closed now, if any."""
        with self._lock:
            pool.active -= 1
            if pool.active or pool not in self._older:
                return None
            self._older.remove(pool)
            return pool.transport

    def all(self) -> list[Any]:
        """Return every transport that is not closed yet."""
        with self._lock:
            older, self._older = self._older, set()
            return [pool.transport for pool in (*older, self._newest)]


class _Stream(httpx.SyncByteStream):
    """An answer's body that tells when it was closed."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended: Callable[[], None] | None = ended

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        ended, self._ended = self._ended, None
        try:
            self._stream.close()
        finally:
            if ended is not None:
                ended()


class _AsyncStream(httpx.AsyncByteStream):
    """An answer's body that tells when it was closed."""

    def __init__(self, stream: Any, ended: Callable[[], Any]) -> None:
        self._stream = stream
        self._ended: Callable[[], Any] | None = ended

    def __aiter__(self) -> AsyncIterator[bytes]:
        parts: AsyncIterator[bytes] = self._stream.__aiter__()
        return parts

    async def aclose(self) -> None:
        ended, self._ended = self._ended, None
        try:
            await self._stream.aclose()
        finally:
            if ended is not None:
                await ended()


def _remember_peer(response: httpx.Response) -> None:
    """Note who answers while the connection is open: a closed one does not tell any more."""
    stream = response.extensions.get("network_stream")
    response.extensions["spiffe_peer"] = None if stream is None else peer_spiffe_id(stream.get_extra_info("ssl_object"))


class RecycledPools(httpx.BaseTransport):
    """A transport whose requests after a rotation use new connections; those on the way end on their own."""

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        self._books = _Books(context, lambda: httpx.HTTPTransport(verify=context, trust_env=False, **options))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the newest pool."""
        pool, idle = self._books.enter()
        if idle is not None:
            idle.close()
        try:
            response: httpx.Response = pool.transport.handle_request(request)
        except BaseException:
            self._leave(pool)
            raise
        _remember_peer(response)
        response.stream = _Stream(response.stream, lambda: self._leave(pool))
        return response

    def _leave(self, pool: _Pool) -> None:
        unused = self._books.leave(pool)
        if unused is not None:
            unused.close()

    def close(self) -> None:
        """Close every connection."""
        for transport in self._books.all():
            transport.close()


class AsyncRecycledPools(httpx.AsyncBaseTransport):
    """:class:`RecycledPools` for asyncio and trio."""

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        self._books = _Books(context, lambda: httpx.AsyncHTTPTransport(verify=context, trust_env=False, **options))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the newest pool."""
        pool, idle = self._books.enter()
        try:
            if idle is not None:
                await idle.aclose()
            response: httpx.Response = await pool.transport.handle_async_request(request)
        except BaseException:
            await self._leave(pool)
            raise
        _remember_peer(response)
        response.stream = _AsyncStream(response.stream, lambda: self._leave(pool))
        return response

    async def _leave(self, pool: _Pool) -> None:
        unused = self._books.leave(pool)
        if unused is not None:
            await unused.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in self._books.all():
            await transport.aclose()
