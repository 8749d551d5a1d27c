"""The contract of every integration, for Redis' clients, blocking and asyncio, with the real server.

Redis does not tell who calls it, so the contract's server is the real one behind a TLS end of ours that does; the tests
after the contract speak to Redis' own TLS.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, NoIdentityError, PeerNotAuthorizedError
from authsec_sdk.integrations.redis import (
    AsyncMTLSConnection,
    MTLSConnection,
    ServerRefusedError,
    mtls_async_client,
    mtls_client,
    peer_spiffe_id,
)
from authsec_sdk.spiffe import SpiffeID, X509Context
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.tls import PeerVerificationError, mtls_client_context, mtls_server_context
from authsec_sdk.tls import peer_spiffe_id as peer_of

pytestmark = pytest.mark.xdist_group("redis")

Row = Callable[[Pair], None]
PATIENCE = 20.0
ROOT = Path(__file__).resolve().parents[3]


class RedisServer:
    """The real server: without TLS on a Unix socket for the tests themselves, with its own TLS on a port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, str(folder / "s")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._number = 0

    @contextmanager
    def running(self) -> Iterator["RedisServer"]:
        command = ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--dir", str(self.folder)]
        with (self.folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                deadline = time.monotonic() + PATIENCE
                while not self._answers():
                    assert process.poll() is None, (self.folder / "log").read_text()
                    assert time.monotonic() < deadline, (self.folder / "log").read_text()
                    time.sleep(0.02)
                yield self
            finally:
                process.terminate()

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), self.admin() as admin:
            return bool(admin.ping())
        return False

    def admin(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.path)

    def present(self, context: X509Context) -> None:
        """Serve TLS with an identity, and trust its trust domain alone."""
        self._number += 1
        svid = context.svid
        contents = {
            "tls-cert-file": b"".join(cert.public_bytes(Encoding.PEM) for cert in svid.certificates),
            "tls-key-file": svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "tls-ca-cert-file": context.bundles.require(svid.id.trust_domain).to_pem(),
        }
        settings: list[str] = []
        for name, content in contents.items():
            path = self.folder / f"{name}.{self._number}"
            path.write_bytes(content)
            settings += [name, str(path)]
        with self.admin() as admin:
            admin.execute_command("CONFIG", "SET", *settings)
            if admin.config_get("tls-port")["tls-port"] == "0":
                admin.execute_command("CONFIG", "SET", "tls-port", str(self.port), "tls-session-caching", "no")


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs Redis: apt-get install redis-server")
    folder = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))  # short, for its Unix socket
    try:
        with RedisServer(folder).running() as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Front:
    """Ends TLS before Redis, and knows who called."""

    def __init__(self, path: str, context: Any) -> None:
        self._path, self._context = path, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.hits = 0
        self.callers: dict[int, SpiffeID] = {}
        self._threads: list[threading.Thread] = []

    @contextmanager
    def running(self) -> Iterator["Front"]:
        accepting = threading.Thread(target=self._accept)
        accepting.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            accepting.join(PATIENCE)
            for thread in self._threads:
                thread.join(PATIENCE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, (_, port) = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(accepted, port)))
                self._threads[-1].start()

    def _serve(self, accepted: socket.socket, port: int) -> None:
        accepted.settimeout(PATIENCE)
        with accepted, contextlib.suppress(OSError), self._context.wrap_socket(accepted, server_side=True) as tls:
            caller = peer_of(tls)
            assert caller is not None
            self.callers[port] = caller
            with socket.socket(socket.AF_UNIX) as behind:
                behind.connect(self._path)
                while command := tls.recv(65536):
                    self.hits += command.count(b"PING\r\n")
                    behind.sendall(command)
                    tls.sendall(behind.recv(65536))


class RedisPair(Pair):
    """redis-py, and the real server behind a TLS end of ours."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._fronts: dict[int, Front] = {}

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Front]:
        context = mtls_server_context(source, authorizer, on_rejected=on_rejected)
        with Front(self._server.path, context).running() as front:
            self._fronts[front.port] = front
            yield front

    def caller(self, port: int, secured: Any) -> SpiffeID | None:
        front = self._fronts.get(port)
        return None if front is None else front.callers[secured.getsockname()[1]]


class BlockingPair(RedisPair):
    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        with mtls_client(source, authorizer, "127.0.0.1", port, on_rejected=on_rejected) as client:

            def call() -> Exchange:
                client.connection_pool.disconnect()
                assert client.ping()
                connection = client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    return Exchange(peer_spiffe_id(connection), self.caller(port, connection._sock))
                finally:
                    client.connection_pool.release(connection)

            yield call


class AsyncPair(RedisPair):
    def __init__(self, server: RedisServer, loop: str) -> None:
        super().__init__(server)
        self._loop = loop

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        with LoopThread(self._loop) as thread:
            client = mtls_async_client(source, authorizer, "127.0.0.1", port, on_rejected=on_rejected)

            async def call() -> Exchange:
                await client.connection_pool.disconnect()
                assert await client.ping()
                connection = await client.connection_pool.get_connection()
                try:
                    sock = connection._writer.get_extra_info("socket")
                    return Exchange(peer_spiffe_id(connection), self.caller(port, sock))
                finally:
                    await client.connection_pool.release(connection)

            try:
                yield lambda: thread.run(call)
            finally:
                thread.run(client.aclose)


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def pair(request: pytest.FixtureRequest, server: RedisServer) -> RedisPair:
    return BlockingPair(server) if request.param == "blocking" else AsyncPair(server, request.param)


def test_client_contract(client_row: Row, pair: RedisPair) -> None:
    client_row(pair)


def test_rotation_under_load(load_row: Row, pair: RedisPair) -> None:
    load_row(pair)


def test_redis_own_tls_takes_our_identity_through_rotations(world: Any, server: RedisServer, pair: RedisPair) -> None:
    server.present(world.payments.x509_context)
    with pair.connect(server.port, world.frontend, authorize_id(world.payments_id)) as call:
        for _ in range(3):
            assert call().peer == world.payments_id
            world.rotate()
            server.present(world.payments.x509_context)


def test_redis_own_tls_drops_a_removed_root_when_told(world: Any, server: RedisServer, pair: RedisPair) -> None:
    server.present(world.payments.x509_context)
    with pair.connect(server.port, world.frontend, authorize_id(world.payments_id)) as call:
        call()
        of_old_root = world.frontend.x509_context.svid
        world.ca.rotate()
        world.ca.remove_old_roots()
        world.publish()
        server.present(world.payments.x509_context)
        world.frontend.publish(world.context(of_old_root))
        with pytest.raises(redis.ConnectionError):
            call()
        world.publish()
        call()


def test_the_refusal_names_the_id_seen_and_the_one_wanted(world: Any, server: RedisServer, pair: RedisPair) -> None:
    server.present(world.payments.x509_context)
    with pair.connect(server.port, world.frontend, authorize_id("spiffe://example.org/orders")) as call:
        with pytest.raises(ServerRefusedError, match=r"spiffe://example\.org/payments") as info:
            call()
    error = info.value.__cause__
    assert isinstance(error, PeerVerificationError)
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert "spiffe://example.org/orders" in str(error)


def test_a_refusal_is_not_tried_again(world: Any, pair: RedisPair) -> None:
    heard: list[Any] = []
    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        with pair.connect(
            served.port, world.frontend, authorize_id("spiffe://example.org/orders"), heard.append
        ) as call:
            with pytest.raises(ServerRefusedError):
                call()
    assert len(heard) == 1


def test_an_outage_is_an_outage(world: Any, pair: RedisPair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pair.connect(port, world.frontend, authorize_id(world.payments_id)) as call:
        with pytest.raises(redis.ConnectionError, match="111"):
            call()


def test_commands_pipelines_and_subscriptions_work(world: Any, server: RedisServer) -> None:
    server.present(world.payments.x509_context)
    options: dict[str, Any] = {"db": 3, "decode_responses": True}
    with mtls_client(world.frontend, authorize_id(world.payments_id), "127.0.0.1", server.port, **options) as client:
        with client.pipeline() as pipeline:
            assert pipeline.set("a", "1").incr("a").get("a").execute() == [True, 2, "2"]
        big = "x" * 5_000_000
        assert client.set("big", big)
        assert client.get("big") == big
        client.flushdb()
        with client.pubsub() as subscription:
            subscription.subscribe("news")
            assert subscription.get_message(timeout=PATIENCE)["type"] == "subscribe"
            client.publish("news", "rotated")
            assert subscription.get_message(timeout=PATIENCE)["data"] == "rotated"


@pytest.mark.parametrize(
    "option", ["ssl", "ssl_cert_reqs", "ssl_ca_certs", "ssl_context", "unix_socket_path", "connection_class", "url"]
)
@pytest.mark.parametrize("factory", [mtls_client, mtls_async_client])
def test_options_that_go_round_the_policy_are_refused(world: Any, factory: Any, option: str) -> None:
    with pytest.raises(CallerError, match=option):
        factory(world.frontend, authorize_member_of("example.org"), "127.0.0.1", **{option: None})


@pytest.mark.parametrize("kind", [MTLSConnection, AsyncMTLSConnection])
def test_a_connection_takes_no_other_tls_and_has_no_peer_before_it_is_open(world: Any, kind: Any) -> None:
    context = mtls_client_context(world.frontend, authorize_member_of("example.org"))
    with pytest.raises(CallerError, match="ssl_certfile"):
        kind(spiffe_context=context, ssl_certfile="/a.pem")
    with pytest.raises(NoIdentityError):
        peer_spiffe_id(kind(spiffe_context=context))


def test_a_server_that_does_not_answer_the_handshake_is_given_up(world: Any, pair: RedisPair) -> None:
    options: dict[str, Any] = {"socket_connect_timeout": 0.2, "retry": None}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with mtls_client(world.frontend, authorize_id(world.payments_id), "127.0.0.1", port, **options) as client:
            with pytest.raises(redis.TimeoutError):
                client.ping()


def test_the_page_and_the_example(world: Any, server: RedisServer) -> None:
    server.present(world.payments.x509_context)
    page = (ROOT / "docs/integrations/redis.md").read_text()
    code = [
        ["-c", block]
        for block in re.findall(
            r"^```python\n(.*?)^```$", page.replace("6379", str(server.port)), re.MULTILINE | re.DOTALL
        )
    ]
    code.append([str(ROOT / "examples/redis_client.py"), "127.0.0.1", str(server.port), str(world.payments_id)])
    said = []
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/frontend")
        for arguments in code:
            env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
            done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    counted = f"{world.frontend_id} counted 1 in {world.payments_id}\n"
    assert said == ["True\n", "True\n", f"{world.payments_id}\n", counted]
