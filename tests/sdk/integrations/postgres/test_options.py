"""What else the PostgreSQL integrations promise: causes, pools, cancellation, and no way round the policy."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg as psycopg3
import pytest
from integration_contract.census import nothing_left
from sqlalchemy import exc, text

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError
from authsec_sdk.integrations import asyncpg, psycopg, sqlalchemy
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.tls import PeerVerificationError

pytestmark = pytest.mark.xdist_group("postgres")

ROOT = Path(__file__).resolve().parents[4]
ORDERS = authorize_id("spiffe://example.org/orders")


def target(followed: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": followed.port, "user": "billing", "dbname": "postgres"}


def test_a_refused_server_is_the_cause(world: Any, follow: Any) -> None:
    with follow(world.payments) as served:
        dsn = f"postgresql://billing@127.0.0.1:{served.port}/postgres"
        with pytest.raises(psycopg3.OperationalError, match=r"spiffe:.*/payments") as info:
            psycopg.PsycopgConnector(world.frontend, ORDERS).connect(dsn)
        assert isinstance(info.value.__cause__, PeerVerificationError)
        assert isinstance(info.value.__cause__.reason, PeerNotAuthorizedError)
        with pytest.raises(PeerVerificationError):
            asyncio.run(asyncpg.AsyncpgConnector(world.frontend, ORDERS).connect(dsn))
        engine = sqlalchemy.mtls_engine(dsn.replace("sql:", "sql+psycopg:"), world.frontend, ORDERS)
        with pytest.raises(exc.OperationalError) as refused:
            engine.connect()
        assert refused.value.__cause__ is not None
        assert isinstance(refused.value.__cause__.__cause__, PeerVerificationError)
        assert served.hits == 0


def test_pools(world: Any, follow: Any, tmp_path: Path) -> None:
    wanted = authorize_id(world.payments_id)
    with follow(world.payments) as served:
        connector = psycopg.PsycopgConnector(world.frontend, wanted)
        dsn = f"postgresql://billing@127.0.0.1:{served.port}/postgres"

        async def asynchronously() -> None:
            async with connector.pool_async(dsn, min_size=1, max_size=2) as pool, pool.connection() as connection:
                assert psycopg.peer_spiffe_id(connection) == world.payments_id
            async with asyncpg.AsyncpgConnector(world.frontend, wanted).pool(dsn, min_size=1, max_size=2) as pool:
                first = await pool.fetchval("SELECT pg_backend_pid()")
                await pool.expire_connections()
                assert await pool.fetchval("SELECT pg_backend_pid()") != first
                async with pool.acquire() as connection:
                    assert asyncpg.peer_spiffe_id(connection) == world.payments_id

        def everything() -> None:
            with connector.pool(dsn, min_size=1, max_size=2) as pool, pool.connection() as connection:
                assert psycopg.peer_spiffe_id(connection) == world.payments_id
                assert connection.execute("SELECT repeat('x', 3000000)").fetchone() == ("x" * 3_000_000,)
            asyncio.run(asynchronously())

        everything()
        with nothing_left(tmp_path):
            everything()


def test_a_query_can_be_cancelled(world: Any, follow: Any) -> None:
    with follow(world.payments) as served:
        connector = psycopg.PsycopgConnector(world.frontend, authorize_id(world.payments_id))
        with connector.connect(**target(served), autocommit=True) as connection:
            timer = threading.Timer(0.3, connection.cancel)
            timer.start()
            with pytest.raises(psycopg3.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(30)")
            timer.join()
            assert connection.execute("SELECT 1").fetchone() == (1,)

        async def asynchronously() -> None:
            async with await connector.connect_async(**target(served)) as connection:
                with pytest.raises(CallerError, match="cancel_safe"):
                    connection.cancel()
                running = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
                await asyncio.sleep(0.3)
                await connection.cancel_safe()
                with pytest.raises(psycopg3.errors.QueryCanceled):
                    await running

        asyncio.run(asynchronously())


def test_the_next_host_is_tried(world: Any, follow: Any) -> None:
    with follow(world.payments) as served:
        connector = psycopg.PsycopgConnector(world.frontend, authorize_id(world.payments_id))
        hosts = {**target(served), "host": "127.0.0.1,127.0.0.1", "port": f"1,{served.port}"}
        with connector.connect(**hosts) as connection:
            assert psycopg.peer_spiffe_id(connection) == world.payments_id


def test_the_environment_leads_nowhere_else(world: Any, follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PGHOSTADDR", "127.0.0.9"), ("PGSSLMODE", "verify-full"), ("PGSSLNEGOTIATION", "direct")):
        monkeypatch.setenv(name, value)
    with follow(world.payments) as served:
        connector = psycopg.PsycopgConnector(world.frontend, authorize_id(world.payments_id))
        with connector.connect(**target(served)) as connection:
            assert psycopg.peer_spiffe_id(connection) == world.payments_id


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"host": "/var/run/postgresql"},
        {"host": "@abstract"},
        {"host": "db", "sslmode": "disable"},
        {"host": "db", "gssencmode": "require"},
        {"host": "db", "port": "x"},
        {"host": "db,", "port": "1"},
        {"host": "a,b", "port": "1,2,3"},
    ],
)
def test_psycopg_takes_no_way_round(world: Any, options: dict[str, Any]) -> None:
    connector = psycopg.PsycopgConnector(world.frontend, ORDERS)
    with pytest.raises(CallerError):
        connector.connect(**options)
    with pytest.raises(CallerError):
        connector.pool(connection_class=psycopg3.Connection)


@pytest.mark.parametrize(
    ("dsn", "options"),
    [
        (None, {}),
        (None, {"host": "/var/run/postgresql"}),
        (None, {"host": ["db", "/run"]}),
        (None, {"host": "db", "ssl": False}),
        ("postgresql://db/x?sslmode=disable", {}),
        ("postgresql:///x?host=/run", {}),
        ("postgresql://%2Frun/x", {}),
        ("postgresql:///x", {}),
        ("postgresql://db/x?service=y", {}),
    ],
)
def test_asyncpg_takes_no_way_round(world: Any, dsn: str | None, options: dict[str, Any]) -> None:
    connector = asyncpg.AsyncpgConnector(world.frontend, ORDERS)
    with pytest.raises(CallerError):
        asyncio.run(connector.connect(dsn, **options))
    with pytest.raises(CallerError):
        connector.pool(dsn, **options)


def test_sqlalchemy_takes_no_way_round(world: Any) -> None:
    for url, options in (
        ("postgresql+psycopg2://db/x", {}),
        ("sqlite://", {}),
        ("postgresql+psycopg://db/x", {"creator": object}),
        ("postgresql+psycopg://db/x", {"connect_args": {"async_creator_fn": object}}),
    ):
        for factory in (sqlalchemy.mtls_engine, sqlalchemy.mtls_async_engine):
            with pytest.raises(CallerError):
                factory(url, world.frontend, ORDERS, **options)
    with (
        pytest.raises(CallerError, match="host"),
        sqlalchemy.mtls_engine("postgresql+psycopg:///x", world.frontend, ORDERS).connect() as connection,
    ):
        connection.execute(text("SELECT 1"))


def test_a_connection_of_somebody_else_has_no_peer(postgres: Any) -> None:
    with postgres.admin() as connection, pytest.raises(CallerError, match="PsycopgConnector"):
        psycopg.peer_spiffe_id(connection)


def test_the_documentation_and_the_example_run(world: Any, follow: Any) -> None:
    page = (ROOT / "docs/integrations/postgres.md").read_text()
    codes = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with follow(world.payments) as served, FakeWorkloadAPI() as agent:
        agent.set_context(world.frontend.x509_context)
        env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
        commands = [["-c", code.replace("5432", str(served.port))] for code in codes]
        dsn = f"host=127.0.0.1 port={served.port} user=billing dbname=postgres"
        commands.append([str(ROOT / "examples/psycopg_client.py"), dsn, str(world.payments_id)])
        for command in commands:
            done = subprocess.run(
                [sys.executable, *command], env=env, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "spiffe://example.org/payments billing" in done.stdout
    assert len(codes) == 3
