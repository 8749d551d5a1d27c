"""The contract of every integration for clients of a real PostgreSQL server: asyncpg, psycopg, SQLAlchemy."""

import contextlib
import socket
import ssl
import struct
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair
from sqlalchemy import NullPool, text

from authsec_sdk.integrations import asyncpg, psycopg, sqlalchemy
from authsec_sdk.spiffe import SpiffeID

pytestmark = pytest.mark.xdist_group("postgres")

Row = Callable[[Pair], None]
# What sslinfo shows of the client's certificate; the one extension with a URI in it.
CALLER = "SELECT value FROM ssl_extension_info() WHERE value LIKE '%URI:spiffe://%'"
ROLE = {"user": "billing", "dbname": "postgres"}


def exchange(peer: SpiffeID, row: Any) -> Exchange:
    uri = next(part for part in str(row).split(", ") if "URI:" in part)
    return Exchange(peer, SpiffeID.parse(uri.partition("URI:")[2]))


class Impostor:
    """Answers SSLRequest, completes a handshake with whatever context, and counts what comes then."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = b""
        self.connections = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with accepted, contextlib.suppress(OSError):
                accepted.settimeout(10)
                assert accepted.recv(8) == struct.pack("!II", 8, 80877103)
                accepted.sendall(b"S")
                with self._context.wrap_socket(accepted, server_side=True) as tls:
                    self.received += tls.recv(4096)

    @contextmanager
    def running(self) -> Iterator["Impostor"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(20)


class PostgresPair(Pair):
    """A client of the real server; the server's identity is what the test publishes."""

    def __init__(self, follow: Any) -> None:
        self._follow = follow

    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> AbstractContextManager[Any]:
        """Serve: the server lets in members of its trust domain, as the rows about clients have it."""
        served: AbstractContextManager[Any] = self._follow(source)
        return served

    def impostor(self, context: ssl.SSLContext) -> AbstractContextManager[Any]:
        return Impostor(context).running()


class AsyncPair(PostgresPair):
    def __init__(self, follow: Any, loop: str) -> None:
        super().__init__(follow)
        self._loop = loop

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        with LoopThread(self._loop) as thread:
            call = self.caller(port, source, authorizer, on_rejected)
            yield lambda: thread.run(call)

    @abstractmethod
    def caller(self, port: int, source: Any, authorizer: Any, on_rejected: Any) -> Any: ...


class AsyncpgPair(AsyncPair):
    def caller(self, port: int, source: Any, authorizer: Any, on_rejected: Any) -> Any:
        connector = asyncpg.AsyncpgConnector(source, authorizer, on_rejected=on_rejected)

        async def call() -> Exchange:
            connection = await connector.connect(f"postgresql://billing@127.0.0.1:{port}/postgres")
            try:
                return exchange(asyncpg.peer_spiffe_id(connection), await connection.fetchval(CALLER))
            finally:
                await connection.close()

        return call


class AsyncPsycopgPair(AsyncPair):
    def caller(self, port: int, source: Any, authorizer: Any, on_rejected: Any) -> Any:
        connector = psycopg.PsycopgConnector(source, authorizer, on_rejected=on_rejected)

        async def call() -> Exchange:
            async with await connector.connect_async(host="127.0.0.1", port=port, **ROLE) as connection:
                [row] = await (await connection.execute(CALLER)).fetchall()
                return exchange(psycopg.peer_spiffe_id(connection), row[0])

        return call


class PsycopgPair(PostgresPair):
    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        connector = psycopg.PsycopgConnector(source, authorizer, on_rejected=on_rejected)

        def call() -> Exchange:
            with connector.connect(host="127.0.0.1", port=port, **ROLE) as connection:
                [row] = connection.execute(CALLER).fetchall()
                return exchange(psycopg.peer_spiffe_id(connection), row[0])

        yield call


class SQLAlchemyPair(PostgresPair):
    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        url = f"postgresql+psycopg://billing@127.0.0.1:{port}/postgres"
        engine = sqlalchemy.mtls_engine(url, source, authorizer, on_rejected=on_rejected, poolclass=NullPool)

        def call() -> Exchange:
            with engine.connect() as connection:
                return exchange(sqlalchemy.peer_spiffe_id(connection), connection.execute(text(CALLER)).scalar_one())

        yield call
        engine.dispose()


class AsyncSQLAlchemyPair(AsyncPair):
    def __init__(self, follow: Any, driver: str) -> None:
        super().__init__(follow, "asyncio")
        self._driver = driver

    def caller(self, port: int, source: Any, authorizer: Any, on_rejected: Any) -> Any:
        url = f"postgresql+{self._driver}://billing@127.0.0.1:{port}/postgres"
        engine = sqlalchemy.mtls_async_engine(url, source, authorizer, on_rejected=on_rejected, poolclass=NullPool)

        async def call() -> Exchange:
            async with engine.connect() as connection:
                peer = await connection.run_sync(sqlalchemy.peer_spiffe_id)
                return exchange(peer, (await connection.execute(text(CALLER))).scalar_one())

        return call


PAIRS: dict[str, Callable[[Any], Pair]] = {
    "asyncpg-asyncio": lambda follow: AsyncpgPair(follow, "asyncio"),
    "asyncpg-uvloop": lambda follow: AsyncpgPair(follow, "uvloop"),
    "psycopg-sync": PsycopgPair,
    "psycopg-asyncio": lambda follow: AsyncPsycopgPair(follow, "asyncio"),
    "psycopg-uvloop": lambda follow: AsyncPsycopgPair(follow, "uvloop"),
    "sqlalchemy-psycopg": SQLAlchemyPair,
    "sqlalchemy-psycopg-async": lambda follow: AsyncSQLAlchemyPair(follow, "psycopg"),
    "sqlalchemy-asyncpg": lambda follow: AsyncSQLAlchemyPair(follow, "asyncpg"),
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, follow: Any) -> Pair:
    return PAIRS[request.param](follow)


def test_client_contract(client_row: Row, pair: Pair) -> None:
    client_row(pair)


@pytest.mark.parametrize("name", ["asyncpg-asyncio", "psycopg-sync", "psycopg-asyncio"])
def test_rotation_under_load(load_row: Row, name: str, follow: Any) -> None:
    load_row(PAIRS[name](follow))
