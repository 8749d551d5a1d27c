"""The server as a process of its own: starts by its configuration, stops on SIGTERM, survives kill -9 without loss."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError

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
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/data/db.sqlite3" }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

Run = Callable[..., Awaitable[anyio.abc.Process]]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def run(folder: Path, unused_port: Callable[[], int]) -> AsyncIterator[Run]:
    """Start `python -m icp_server run` and wait until it is healthy."""
    (folder / "server.conf").write_text(CONFIG.format(folder=folder, port=unused_port()))
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


async def test_a_port_that_is_taken_ends_it_with_the_reason(run: Run, folder: Path, unused_port: Any) -> None:
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


async def test_kill_9_loses_and_doubles_nothing_that_was_answered(run: Run, folder: Path) -> None:
    answered: list[str] = []
    tokens: list[str] = []

    async def write(worker: int) -> None:
        async with Channel.unix(str(folder / "private/api.sock"), max_backoff=0) as channel:
            entries, agents = entry_grpc.EntryStub(channel), agent_grpc.AgentStub(channel)
            for number in range(worker * 100_000, (worker + 1) * 100_000):
                try:
                    request = entry_pb2.BatchCreateEntryRequest(entries=[_entry(number)])
                    (result,) = (await entries.BatchCreateEntry(request)).results
                    answered.append(result.entry.id)
                    tokens.append((await agents.CreateJoinToken(agent_pb2.CreateJoinTokenRequest(ttl=600))).value)
                except GRPCError:
                    return

    process = await run()
    async with anyio.create_task_group() as tasks:
        for worker in range(4):
            tasks.start_soon(write, worker)
        with anyio.fail_after(60):
            while len(answered) < 50:
                await anyio.sleep(0.01)
        process.kill()
    await process.wait()

    process = await run()
    async with Channel.unix(str(folder / "private/api.sock"), max_receive_bytes=1 << 26) as channel:
        listed = await entry_grpc.EntryStub(channel).ListEntries(entry_pb2.ListEntriesRequest())
        ids = [entry.id for entry in listed.entries if entry.id.startswith("e")]
        assert len(ids) == len(set(ids))
        assert set(answered) <= set(ids)
        assert len(ids) <= len(answered) + 4  # at most one a worker was written and not answered any more
        with pytest.raises(GRPCError):  # a token that was handed out is there, and its text is taken
            await agent_grpc.AgentStub(channel).CreateJoinToken(
                agent_pb2.CreateJoinTokenRequest(ttl=600, token=tokens[-1])
            )


async def test_idle_it_is_smaller_than_upstreams(run: Run) -> None:
    process = await run()
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])
    assert resident < 137 * 1024
