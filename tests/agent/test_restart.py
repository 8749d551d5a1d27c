"""The agent as a process of its own: restarted, killed at any moment, stopped; what it leaves behind is usable."""

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

import pytest

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_agent.domain.agent_state import Phase

pytestmark = pytest.mark.anyio

CONFIG = """
agent {{
  data_dir = "{folder}/data"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{folder}/public/api.sock"
  trust_bundle_path = "{folder}/bundle.pem"
  trust_domain = "example.org"
  log_level = "debug"
  experimental {{ sync_interval = "100ms" }}
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{folder}/data" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


class Process:
    """`icp-agent run` against the fake server."""

    def __init__(self, server, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "agent.conf"
        self.config.write_text(CONFIG.format(folder=folder, port=server.port))
        (folder / "bundle.pem").write_bytes(server.ca.bundle().to_pem())
        self.socket = folder / "public" / "api.sock"
        self.log = folder / "agent.log"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *flags: str) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "icp_agent", "run", "-config", str(self.config), *flags,
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip

    async def healthy(self) -> bool:
        try:
            async with Channel.unix(str(self.socket), max_backoff=0) as channel:
                answer = await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except GRPCError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def until_healthy(self) -> None:
        async with asyncio.timeout(60):
            while not await self.healthy():
                assert self.process is not None
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


@pytest.fixture
async def process(server, folder):
    process = Process(server, folder)
    yield process
    if process.process is not None:
        await process.end(signal.SIGKILL)


async def test_a_restart_needs_no_new_token(server, process):
    await process.start("-joinToken", "good-token")
    await process.until_healthy()
    assert await process.end(signal.SIGTERM) == 0
    assert not process.socket.exists()
    await process.start()
    await process.until_healthy()
    assert server.calls["AttestAgent"] == 1
    assert "good-token" not in process.log.read_text().replace("join_token/good-token", ""), "tokens are not logged"


async def test_a_restart_without_the_server_waits_for_it(server, process):
    await process.start("-joinToken", "good-token")
    await process.until_healthy()
    await process.end(signal.SIGKILL)
    await server.stop()
    await process.start()
    async with asyncio.timeout(60):
        while "Synchronize failed" not in process.log.read_text():
            await asyncio.sleep(0.05)
    assert process.process.returncode is None
    await server.start()
    await process.until_healthy()
    assert server.calls["AttestAgent"] == 1


async def test_killed_again_and_again_while_it_writes(server, process, eventually):
    """The agent's SVID is renewed, and the bundle rotated, all the time; no kill may cost more than the process."""
    from datetime import timedelta

    server.agent_ttl = timedelta(seconds=9.5)  # of 19.5 s: renewed at once, and still good for a while
    await process.start("-joinToken", "good-token")
    for attempt in range(6):
        await process.until_healthy()
        renewals = server.calls["RenewAgent"]
        await eventually(lambda renewals=renewals: server.calls["RenewAgent"] > renewals, process.log.read_text)
        server.rotate()
        await asyncio.sleep(0.03 * attempt)
        await process.end(signal.SIGKILL)
        await process.start()
    await process.until_healthy()
    assert server.calls["AttestAgent"] == 1


async def test_broken_state_is_refused_with_what_to_do(server, process, folder):
    await process.start("-joinToken", "good-token")
    await process.until_healthy()
    await process.end(signal.SIGTERM)
    (folder / "data" / "agent-bundle.sealed").write_bytes(b"junk")
    await process.start()
    assert await process.process.wait() == 1
    assert "agent-bundle.sealed" in process.log.read_text().splitlines()[-1]


async def test_memory_is_hidden_from_other_processes_of_the_user(process):
    """PR_SET_DUMPABLE 0: /proc/PID/mem belongs to root and no core is ever written."""
    await process.start("-joinToken", "good-token")
    await process.until_healthy()
    pid = process.process.pid
    limits = Path(f"/proc/{pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4] == "0"
    if os.getuid() != 0:
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
    else:
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1, "the test's own process is dumpable: nothing leaked over"


async def test_a_stop_while_it_attests_is_clean(server, process):
    await server.stop()
    await process.start("-joinToken", "good-token")
    async with asyncio.timeout(60):
        while "will try again" not in process.log.read_text():
            await asyncio.sleep(0.05)
    assert await process.end(signal.SIGTERM) == 0


async def test_with_keys_in_memory_a_restart_attests_again(server, start_agent, folder):
    agent = await start_agent(keys_directory=None)
    await agent.stop()
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["agent-bundle.sealed", "agent-seal.key"]
    server.tokens.add("good-token")
    await start_agent(keys_directory=None)
    assert server.calls["AttestAgent"] == 2


async def test_a_stored_svid_that_expired_is_not_used(server, start_agent, eventually):
    from datetime import timedelta

    async def fail(call):
        from authsec_sdk.rpc import Status

        raise GRPCError(Status.UNAVAILABLE, "no")

    server.agent_ttl = timedelta(seconds=1)
    server.script["RenewAgent"] = fail
    agent = await start_agent()
    await agent.stop()
    await asyncio.sleep(1.1)
    server.agent_ttl = timedelta(hours=1)
    server.tokens.add("good-token")
    again = await start_agent()
    assert server.calls["AttestAgent"] == 2
    assert again.phase is Phase.READY
