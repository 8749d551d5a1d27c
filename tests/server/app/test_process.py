"""The server as a process of its own: starts by its configuration, stops on SIGTERM, survives kill -9 without loss."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.proto.spire import (
    agent_grpc,
    agent_pb2,
    bundle_grpc,
    bundle_pb2,
    entry_grpc,
    entry_pb2,
    types_pb2,
)
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.wire import bundle_from_wire
from authsec_sdk.tls import tls_client_context

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]

CONFIG = """
server {{
  bind_address = "127.0.0.1"
  bind_port = {port}
  trust_domain = "$TRUST_DOMAIN"
  data_dir = "{folder}/data"
  socket_path = "{folder}/private/api.sock"
  experimental {{ cache_reload_interval = "1s" }}
  ratelimit {{ attestation = false }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/data/db.sqlite3" }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

Run = Callable[..., Awaitable[anyio.abc.Process]]
WRITERS = 3
USED = "failed to attest: join token does not exist or has already been used"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def port(unused_port: Callable[[], int]) -> int:
    return unused_port()


@pytest.fixture
async def run(folder: Path, port: int) -> AsyncIterator[Run]:
    """Start `python -m icp_server run` and wait until it is healthy."""
    (folder / "server.conf").write_text(CONFIG.format(folder=folder, port=port))
    started: list[anyio.abc.Process] = []

    async def start(*flags: str) -> anyio.abc.Process:
        command = [sys.executable, "-m", "icp_server", "run", "-config", str(folder / "server.conf"), "-expandEnv"]
        with (folder / "server.log").open("ab") as log:
            process = await anyio.open_process(
                [*command, *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TRUST_DOMAIN": "example.org", "PYTHONPATH": str(ROOT)},
            )
        started.append(process)
        with anyio.fail_after(60):
            while not await _healthy(folder):
                assert process.returncode is None, (folder / "server.log").read_text()
                await anyio.sleep(0.05)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.aclose()


async def _healthy(folder: Path) -> bool:
    async with Channel.unix(str(folder / "private/api.sock"), max_backoff=0) as channel:
        try:
            answer = await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except GRPCError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_sigterm_stops_it_in_good_order(run: Run, folder: Path) -> None:
    process = await run("-logFormat", "json", "-logLevel", "debug")
    process.send_signal(signal.SIGUSR1)  # upstream reloads plugins on it
    process.terminate()
    with anyio.fail_after(60):
        assert await process.wait() == 0
    log = (folder / "server.log").read_text()
    for phrase in ("Configured", "Starting Server APIs", "Stopping Server APIs", "Server stopped gracefully"):
        assert phrase in log
    assert not (folder / "private/api.sock").exists()


async def test_a_port_that_is_taken_ends_it_with_the_reason(run: Run, folder: Path) -> None:
    await run()
    flags = ("-dataDir", str(folder / "other"), "-socketPath", str(folder / "other/api.sock"))
    process = await anyio.run_process(
        [sys.executable, "-m", "icp_server", "run", "-config", str(folder / "server.conf"), "-expandEnv", *flags],
        check=False,
        env={**os.environ, "TRUST_DOMAIN": "example.org", "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 1
    assert b"Server crashed" in process.stdout
    assert b"Traceback" not in process.stdout


def _entry(number: int) -> types_pb2.Entry:
    return types_pb2.Entry(
        id=f"e{number}",
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=f"/w{number}"),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        selectors=[types_pb2.Selector(type="unix", value="uid:1")],
    )


async def _accepted(attempt: Awaitable[object]) -> bool:
    try:
        await attempt
    except GRPCError as error:
        if (error.status, error.message) == (Status.INVALID_ARGUMENT, USED):
            return False
        raise
    return True


def _is_failure(error: BaseException) -> bool:
    """Whether a call failed with anything but the server being away."""
    return isinstance(error, GRPCError) and error.status is not Status.UNAVAILABLE


@dataclass
class Promised:
    """What the server answered before it was killed."""

    entries: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    joined: dict[str, int] = field(default_factory=dict)
    """Which of the two keys that showed a token was accepted."""


async def test_kill_9_loses_and_doubles_nothing_that_was_answered(
    run: Run, folder: Path, port: int, new_requester: Any, show_token: Any
) -> None:
    """Killed while operators write and nodes join: no entry is lost or doubled, no token joins two keys."""
    socket, promised = str(folder / "private/api.sock"), Promised()
    rivals = [new_requester().csr() for _ in range(2)]

    async def write(worker: int) -> None:
        async with Channel.unix(socket, max_backoff=0) as channel:
            for number in range(worker * 100_000, (worker + 1) * 100_000):
                request = entry_pb2.BatchCreateEntryRequest(entries=[_entry(number)])
                (result,) = (await entry_grpc.EntryStub(channel).BatchCreateEntry(request)).results
                promised.entries.append(result.entry.id)

    async def join() -> None:
        async with Channel.unix(socket, max_backoff=0) as admin, await _as_stranger(admin, port) as node:
            while True:
                request = agent_pb2.CreateJoinTokenRequest(ttl=600)
                token = (await agent_grpc.AgentStub(admin).CreateJoinToken(request)).value
                promised.tokens.append(token)
                async with anyio.create_task_group() as both:
                    for number, csr in enumerate(rivals):
                        both.start_soon(show, node, token, number, csr)

    async def show(node: Channel, token: str, number: int, csr: bytes) -> None:
        if await _accepted(show_token(node, token, csr)):
            assert promised.joined.setdefault(token, number) == number

    async def until_killed(work: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await work(*args)
        except* GRPCError as group:
            if group.subgroup(_is_failure):
                raise

    process = await run()
    async with anyio.create_task_group() as tasks:
        for worker in range(WRITERS):
            tasks.start_soon(until_killed, write, worker)
        tasks.start_soon(until_killed, join)
        tasks.start_soon(until_killed, join)
        with anyio.fail_after(60):
            while len(promised.entries) < 40 or len(promised.joined) < 10:
                await anyio.sleep(0.01)
        process.kill()
    await process.wait()

    process = await run()
    async with Channel.unix(socket, max_receive_bytes=1 << 26) as admin, await _as_stranger(admin, port) as node:
        listed = await entry_grpc.EntryStub(admin).ListEntries(entry_pb2.ListEntriesRequest())
        ids = [entry.id for entry in listed.entries]
        assert len(ids) == len(set(ids))
        assert set(promised.entries) <= set(ids)
        # What a writer had asked for when the server died may be written, and was not answered any more.
        assert len(ids) <= len(promised.entries) + WRITERS

        for token in promised.tokens:
            winners = [number for number, csr in enumerate(rivals) if await _accepted(show_token(node, token, csr))]
            assert len(winners) == 1, "every token that was handed out joins exactly one key"
            assert promised.joined.get(token) in (None, *winners)
            assert not await _accepted(show_token(node, token, new_requester().csr()))


async def _as_stranger(admin: Channel, port: int) -> Channel:
    """A node that has the bundle and no certificate."""
    bundle = bundle_from_wire(await bundle_grpc.BundleStub(admin).GetBundle(bundle_pb2.GetBundleRequest()))
    holder = X509ContextHolder(X509Context((), BundleSet.of(bundle.x509_bundle())))
    context = tls_client_context(holder, authorize_id(server_id(bundle.trust_domain)), alpn=("h2",))
    return Channel.tcp("127.0.0.1", port, ssl=context, max_backoff=0)


async def test_idle_it_is_smaller_than_upstreams(run: Run) -> None:
    process = await run()
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])
    assert resident < 137 * 1024
