"""Clients of `bench.integrations`: for each framework, calls on an open connection, and calls on a new one each.

`name(folder, ours, port)` gives a `Caller`, with our factory or with the framework's own and a standard context.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from authsec_sdk.authz import authorize_id
from bench import _identities
from bench._http11 import Client
from bench._identities import SERVER

RUNNER = asyncio.Runner()
POLICY = authorize_id(SERVER)


class Caller(ABC):
    """What is measured of a client, or through a client of a server."""

    @abstractmethod
    def steady(self, calls: int) -> float:
        """Return the median time of a call on one open connection in microseconds."""

    @abstractmethod
    def fresh(self, calls: int) -> None:
        """Make calls on new connections, one after the other."""

    @abstractmethod
    def close(self) -> None:
        """End it."""


class Blocking(Caller):
    """A client that blocks."""

    def __init__(
        self, call: Callable[[], object], once: Callable[[], object], end: Callable[[], object] = lambda: None
    ) -> None:
        self._call, self._once, self._end = call, once, end

    def steady(self, calls: int) -> float:
        spent = []
        for _ in range(calls):
            begun = time.perf_counter_ns()
            self._call()
            spent.append(time.perf_counter_ns() - begun)
        return statistics.median(spent) / 1e3

    def fresh(self, calls: int) -> None:
        for _ in range(calls):
            self._once()

    def close(self) -> None:
        self._end()


class Awaited(Caller):
    """A client on asyncio."""

    def __init__(
        self,
        call: Callable[[], Awaitable[object]],
        once: Callable[[], Awaitable[object]],
        end: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._call, self._once, self._end = call, once, end

    def steady(self, calls: int) -> float:
        async def all_() -> list[int]:
            spent = []
            for _ in range(calls):
                begun = time.perf_counter_ns()
                await self._call()
                spent.append(time.perf_counter_ns() - begun)
            return spent

        return statistics.median(RUNNER.run(all_())) / 1e3

    def fresh(self, calls: int) -> None:
        async def all_() -> None:
            for _ in range(calls):
                await self._once()

        RUNNER.run(all_())

    def close(self) -> None:
        async def end() -> None:
            if self._end is not None:
                await self._end()

        RUNNER.run(end())


def bare(folder: Path, _ours: bool, port: int) -> Caller:
    """Speak HTTP over raw asyncio and the standard library's TLS: what servers are measured by."""
    context = _identities.stdlib(folder, "client", ("http/1.1",))

    async def connect() -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, "127.0.0.1", port, ssl=context, server_hostname="x")
        return client

    kept = RUNNER.run(connect())

    async def once() -> None:
        client = await connect()
        await client.get(100)
        client.end()

    async def end() -> None:
        kept.end()

    return Awaited(lambda: kept.get(100), once, end)


def httpx_sync(folder: Path, ours: bool, port: int) -> Caller:
    """Call with httpx, blocking."""
    import httpx

    from authsec_sdk.integrations.httpx import mtls_client

    source = _identities.source(folder, "client")
    client = (
        mtls_client(source, POLICY)
        if ours
        else httpx.Client(verify=_identities.stdlib(folder, "client"), trust_env=False)
    )
    url = f"https://127.0.0.1:{port}"
    return Blocking(lambda: client.get(f"{url}/100"), lambda: client.get(f"{url}/close"), client.close)


def httpx_asyncio(folder: Path, ours: bool, port: int, http2: bool = False) -> Caller:
    """Call with httpx on asyncio."""
    import httpx

    from authsec_sdk.integrations.httpx import mtls_async_client

    source = _identities.source(folder, "client")

    def made() -> httpx.AsyncClient:
        if ours:
            return mtls_async_client(source, POLICY, http2=http2)
        return httpx.AsyncClient(verify=_identities.stdlib(folder, "client"), trust_env=False, http2=http2)

    client, url = made(), f"https://127.0.0.1:{port}"
    return Awaited(lambda: client.get(f"{url}/100"), lambda: client.get(f"{url}/close"), client.aclose)


def aiohttp(folder: Path, ours: bool, port: int) -> Caller:
    """Call with aiohttp."""
    import aiohttp as library

    from authsec_sdk.integrations.aiohttp import mtls_session

    async def made() -> library.ClientSession:
        if ours:
            return mtls_session(_identities.source(folder, "client"), POLICY)
        connector = library.TCPConnector(ssl=_identities.stdlib(folder, "client", ("http/1.1",)))
        return library.ClientSession(connector=connector)

    session, url = RUNNER.run(made()), f"https://127.0.0.1:{port}"

    async def get(path: str) -> None:
        async with session.get(f"{url}/{path}") as response:
            await response.read()

    return Awaited(lambda: get("100"), lambda: get("close"), session.close)


def urllib3(folder: Path, ours: bool, port: int) -> Caller:
    """Call with urllib3."""
    import urllib3 as library

    from authsec_sdk.integrations.urllib3 import mtls_pool_manager

    manager: library.PoolManager
    if ours:
        manager = mtls_pool_manager(_identities.source(folder, "client"), POLICY)
    else:
        manager = library.PoolManager(ssl_context=_identities.stdlib(folder, "client"), assert_hostname=False)
    url = f"https://127.0.0.1:{port}"
    return Blocking(
        lambda: manager.request("GET", f"{url}/100"), lambda: manager.request("GET", f"{url}/close"), manager.clear
    )


def requests(folder: Path, ours: bool, port: int) -> Caller:
    """Call with requests."""
    import requests as library
    from requests.adapters import HTTPAdapter

    from authsec_sdk.integrations.requests import mtls_session

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            options |= {"ssl_context": _identities.stdlib(folder, "client"), "assert_hostname": False}
            super().init_poolmanager(*arguments, **options)

    if ours:
        session = mtls_session(_identities.source(folder, "client"), POLICY)
    else:
        session = library.Session()
        session.trust_env = False
        session.verify = str(folder / "authorities.pem")  # read for each connection: requests has no other way
        session.mount("https://", Adapter())
    url = f"https://127.0.0.1:{port}"
    return Blocking(lambda: session.get(f"{url}/100"), lambda: session.get(f"{url}/close"), session.close)


def redis_sync(folder: Path, ours: bool, port: int) -> Caller:
    """Call with redis-py, blocking; the other side is the same connection class with a standard context."""
    import redis

    from authsec_sdk.integrations.redis import MTLSConnection, mtls_client

    if ours:
        client = mtls_client(_identities.source(folder, "client"), POLICY, "127.0.0.1", port, protocol=2)
    else:
        context: Any = _identities.stdlib(folder, "client")
        pool = redis.ConnectionPool(MTLSConnection, spiffe_context=context, host="127.0.0.1", port=port, protocol=2)
        client = redis.Redis.from_pool(pool)

    def once() -> None:
        client.connection_pool.disconnect()
        client.ping()

    return Blocking(client.ping, once, client.close)


def redis_asyncio(folder: Path, ours: bool, port: int) -> Caller:
    """Call with redis-py on asyncio; the other side is the same connection class with a standard context."""
    import redis.asyncio as library

    from authsec_sdk.integrations.redis import AsyncMTLSConnection, mtls_async_client

    if ours:
        client = mtls_async_client(_identities.source(folder, "client"), POLICY, "127.0.0.1", port, protocol=2)
    else:
        context: Any = _identities.stdlib(folder, "client")
        pool: Any = library.ConnectionPool(
            AsyncMTLSConnection, spiffe_context=context, host="127.0.0.1", port=port, protocol=2
        )
        client = library.Redis.from_pool(pool)

    async def ping() -> None:
        await client.ping()

    async def once() -> None:
        await client.connection_pool.disconnect()
        await ping()

    return Awaited(ping, once, client.aclose)


def websockets(folder: Path, ours: bool, port: int) -> Caller:
    """Echo with websockets."""
    from websockets.asyncio.client import connect

    from authsec_sdk.integrations.websockets import MTLSClient

    uri = f"wss://127.0.0.1:{port}/"
    options: dict[str, Any] = {"compression": None}
    if ours:
        client = MTLSClient(_identities.source(folder, "client"), POLICY)
    context = _identities.stdlib(folder, "client", ("http/1.1",))

    async def opened() -> Any:
        return await (client.connect(uri, **options) if ours else connect(uri, ssl=context, proxy=None, **options))

    kept = RUNNER.run(opened())

    async def call() -> None:
        await kept.send("x" * 100)
        await kept.recv()

    async def once() -> None:
        connection = await opened()
        await connection.close()

    return Awaited(call, once, kept.close)


def grpclib(folder: Path, ours: bool, port: int) -> Caller:
    """Ask for health with grpclib."""
    from grpclib.client import Channel
    from grpclib.health.v1.health_grpc import HealthStub
    from grpclib.health.v1.health_pb2 import HealthCheckRequest

    from authsec_sdk.integrations.grpclib import mtls_channel

    async def made() -> Channel:
        if ours:
            return mtls_channel("127.0.0.1", port, _identities.source(folder, "client"), POLICY)
        return Channel("127.0.0.1", port, ssl=_identities.stdlib(folder, "client", ("h2",)))

    channel = RUNNER.run(made())

    async def call() -> None:
        await HealthStub(channel).Check(HealthCheckRequest(), timeout=10)

    async def once() -> None:
        channel.close()  # the next call connects anew
        await call()

    async def end() -> None:
        channel.close()

    return Awaited(call, once, end)


def asyncpg(folder: Path, ours: bool, port: int) -> Caller:
    """Query PostgreSQL with asyncpg."""
    import asyncpg as library  # type: ignore[import-untyped]

    from authsec_sdk.integrations.asyncpg import AsyncpgConnector

    connector = AsyncpgConnector(_identities.source(folder, "client"), POLICY)
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "spire", "database": "postgres"}
    context = _identities.stdlib(folder, "client", ("postgresql",))

    async def opened() -> Any:
        return await (connector.connect(**where) if ours else library.connect(ssl=context, **where))

    kept = RUNNER.run(opened())

    async def once() -> None:
        connection = await opened()
        await connection.close()

    return Awaited(lambda: kept.fetchval("SELECT 1"), once, kept.close)


def psycopg(folder: Path, ours: bool, port: int) -> Caller:
    """Query PostgreSQL with psycopg, beside libpq's own TLS, which knows no SPIFFE IDs and reads files each time."""
    import psycopg as library

    from authsec_sdk.integrations.psycopg import PsycopgConnector

    connector = PsycopgConnector(_identities.source(folder, "client"), POLICY)
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "spire", "dbname": "postgres"}
    files: dict[str, Any] = {
        "sslmode": "verify-ca",
        "sslrootcert": str(folder / "authorities.pem"),
        "sslcert": str(folder / "client-chain.pem"),
        "sslkey": str(folder / "client-key.pem"),
    }

    def opened() -> library.Connection[Any]:
        return connector.connect(**where) if ours else library.connect(**where, **files)

    kept = opened()
    kept.autocommit = True
    return Blocking(lambda: kept.execute("SELECT 1").fetchone(), lambda: opened().close(), kept.close)
