"""Two workloads of one trust domain, and the contract every integration keeps.

To be held to it, `test_NAME.py` has a fixture `pair` (a `Pair` of `contract/pair.py`, parametrized by event loop or
variant) and one function for each side under test, of which pytest makes a test for each row::

    def test_client_contract(client_row: Row, pair: Pair) -> None:
        client_row(pair)

    def test_server_contract(server_row: Row, pair: Pair) -> None:
        server_row(pair)

    def test_rotation_under_load(load_row: Row, pair: Pair) -> None:
        load_row(pair)

with `from integration_contract.pair import Exchange, Pair` and `Row = Callable[[Pair], None]`.
"""

import asyncio
import os
import socket
import ssl
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import peer_spiffe_id
from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import Credential, TestCA

# Test folders are no packages; this makes the modules of contract/ importable by the tests beside it.
pytest.register_assert_rewrite("integration_contract")
if "integration_contract" not in sys.modules:
    _package = types.ModuleType("integration_contract")
    _package.__path__ = [str(Path(__file__).with_name("contract"))]
    sys.modules["integration_contract"] = _package

from integration_contract import rows, table  # noqa: E402 - after the line that makes it importable
from integration_contract.pair import Pair  # noqa: E402

FRONTEND = SpiffeID.parse("spiffe://example.org/frontend")
PAYMENTS = SpiffeID.parse("spiffe://example.org/payments")


class World:
    """A CA, its two workloads, and what each of them trusts."""

    def __init__(self) -> None:
        self.ca = TestCA("example.org")
        self.other = TestCA("other.test")
        self.frontend = X509ContextHolder()
        self.payments = X509ContextHolder()
        self.frontend_id, self.payments_id = FRONTEND, PAYMENTS
        self._upcoming: TestCA | None = None
        self.publish()

    def context(self, svid: X509SVID, *bundles: X509Bundle) -> X509Context:
        return X509Context(svids=(svid,), bundles=BundleSet.of(*(bundles or (self.ca.bundle(), self.other.bundle()))))

    def publish(self) -> None:
        """Give both workloads new SVIDs and the bundles as they are now."""
        self.frontend.publish(self.context(self.ca.svid("/frontend")))
        self.payments.publish(self.context(self.ca.svid("/payments")))

    def rotate(self) -> None:
        """One step of a rolling rotation: the next root is announced one step ahead, the last one goes a step after.

        Each side trusts what the other one presents, one step ahead or behind. The first step only announces.
        """
        last, self.ca = self.ca, self._upcoming or self.ca
        self._upcoming = TestCA(self.ca.trust_domain)
        roots = {ca.certificate: None for ca in (last, self.ca, self._upcoming)}
        bundle = X509Bundle(trust_domain=self.ca.trust_domain, authorities=tuple(roots))
        for holder, path in ((self.frontend, "/frontend"), (self.payments, "/payments")):
            holder.publish(self.context(self.ca.svid(path), bundle, self.other.bundle()))

    def ordinary_server_context(self, credential: Credential) -> ssl.SSLContext:
        """Return a context of the standard library that presents a credential and asks for nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.NamedTemporaryFile() as file:
            file.write(key + b"".join(cert.public_bytes(Encoding.PEM) for cert in credential.certificates))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def context_without_certificate(self) -> ssl.SSLContext:
        """Return a client's context of the standard library that presents nothing and accepts everybody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def _kept(pair: Pair, row: Callable[..., None], *args: Any) -> None:
    if reason := pair.cannot.get(row.__name__):
        pytest.skip(f"cannot: {reason}")
    row(*args)


@pytest.fixture(params=rows.SIDE_ROWS, ids=lambda row: row.__name__)
def client_row(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Callable[[Pair], None]:
    """One row of the contract for a client: call it with the pair."""
    return lambda pair: _kept(pair, request.param, rows.Side(world, pair, "client", tmp_path))


@pytest.fixture(params=rows.SIDE_ROWS, ids=lambda row: row.__name__)
def server_row(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Callable[[Pair], None]:
    """One row of the contract for a server: call it with the pair."""
    return lambda pair: _kept(pair, request.param, rows.Side(world, pair, "server", tmp_path))


@pytest.fixture
def load_row(world: World) -> Callable[[Pair], None]:
    """The row for both sides at once: no call fails through 20 rotations under load."""
    return lambda pair: _kept(pair, rows.no_failure_through_rotations, world, pair)


@pytest.fixture
def world() -> World:
    return World()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the caller's SPIFFE ID."""
    body = str(peer_spiffe_id(scope)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


class Counted:
    """An application that knows how many requests reached it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.hits = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.hits += 1
        await self.app(scope, receive, send)


class Running:
    """A uvicorn server in a thread of its own."""

    def __init__(self, config: Callable[[], MTLSConfig]) -> None:
        self._config = config
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: uvicorn.Server | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uvicorn")

    def _run(self) -> None:
        config = self._config()
        self._server = MTLSServer(config)

        async def serve() -> None:
            assert self._server is not None
            task = asyncio.ensure_future(self._server.serve(sockets=[self._listener]))
            while not self._server.started and not task.done():
                await asyncio.sleep(0.01)
            self._started.set()
            await task

        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(serve())

    @contextmanager
    def running(self) -> Iterator["Running"]:
        self._thread.start()
        assert self._started.wait(20)
        try:
            yield self
        finally:
            assert self._server is not None
            self._server.should_exit = True
            self._thread.join(20)
            self._listener.close()
            assert not self._thread.is_alive()


@pytest.fixture
def serve(world: World) -> Callable[..., Any]:
    """Return a context manager that serves an application as ``payments`` and accepts ``frontend``."""

    @contextmanager
    def start(app: Any = echo, authorizer: Any = None, **options: Any) -> Iterator[Running]:
        def config() -> MTLSConfig:
            options.setdefault("log_level", "warning")
            options.setdefault("lifespan", "off")
            return MTLSConfig(app, world.payments, authorizer or authorize_id(FRONTEND), **options)

        with Running(config).running() as server:
            yield server

    return start


def pytest_collection_finish(session: pytest.Session) -> None:
    """With CONTRACT_PAGE in the environment, write the page of the documentation there."""
    if name := os.environ.get("CONTRACT_PAGE"):
        Path(name).write_text(table.page(table.filled(table.planned(session.items))))


def _went(reporter: pytest.TerminalReporter) -> table.Table:
    results = []
    for outcome in ("passed", "skipped", "failed", "error"):
        for report in reporter.getreports(outcome):
            reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
            results.append((report.nodeid, outcome, reason.removeprefix("Skipped: ")))
    return table.filled(results)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With CONTRACT_TABLE in the environment, print the table framework × row as it went."""
    if os.environ.get("CONTRACT_TABLE"):
        went = _went(terminalreporter)
        terminalreporter.section("framework × contract row")
        for line in table.printed(went):
            terminalreporter.line(line)
        for fault in table.faults(went):
            terminalreporter.line(f"NOT SHOWN {fault}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CONTRACT_TABLE, a cell that is neither passed nor explained fails the run, a skipped one too."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # workers have none; the controller judges
    if os.environ.get("CONTRACT_TABLE") and reporter is not None and table.faults(_went(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
