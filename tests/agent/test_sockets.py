"""Where the sockets are, who may put others in their place, and who may use which."""

import asyncio
import os
import stat
import sys

import anyio
import pytest

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.proto import health_grpc, health_pb2, workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from icp_agent.api.sockets import may_administer
from icp_agent.config import HealthListenerSettings

pytestmark = pytest.mark.anyio


async def test_modes(start_agent, folder):
    agent = await start_agent(admin_socket_path=folder / "admin" / "admin.sock")
    public, admin = agent.config.socket_path, agent.config.admin_socket_path
    assert stat.S_IMODE(public.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE(public.stat().st_mode) == 0o777
    assert stat.S_IMODE(admin.parent.stat().st_mode) == 0o750
    assert stat.S_IMODE(admin.stat().st_mode) == 0o770


@pytest.mark.parametrize("which", ["socket_path", "admin_socket_path"])
async def test_a_folder_others_can_write_is_refused(start_agent, folder, which):
    """Whoever can write there puts a socket of his own in place and feeds workloads his trust roots."""
    squatted = folder / "squatted"
    squatted.mkdir()
    squatted.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be written by others"):
        await start_agent(wait=False, **{which: squatted / "api.sock"})


async def test_a_world_writable_sticky_folder_is_refused_too(start_agent, folder):
    """There nobody can remove our socket, but anybody can be there first."""
    squatted = folder / "tmp"
    squatted.mkdir()
    squatted.chmod(0o1777)
    with pytest.raises(ConfigurationError, match="can be written by others"):
        await start_agent(wait=False, socket_path=squatted / "api.sock")


async def test_a_second_agent_does_not_take_over_the_socket(start_agent, folder):
    agent = await start_agent()
    with pytest.raises(OSError, match="another process listens"):
        await start_agent(wait=False, data_dir=folder / "other", keys_directory=None)
    async with agent.channel() as channel:
        await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())


async def test_a_socket_left_behind_is_replaced(start_agent, folder):
    import socket

    (folder / "public").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "public" / "api.sock"))
    await start_agent()


async def test_a_file_in_the_sockets_place_stays(start_agent, folder):
    (folder / "public").mkdir()
    (folder / "public" / "api.sock").write_text("precious")
    with pytest.raises(OSError, match="file in the socket's place"):
        await start_agent(wait=False)
    assert (folder / "public" / "api.sock").read_text() == "precious"


async def test_sockets_are_removed_at_the_end(start_agent, folder):
    agent = await start_agent(admin_socket_path=folder / "admin" / "admin.sock")
    assert await agent.stop() == 0
    assert not agent.config.socket_path.exists()
    assert not agent.config.admin_socket_path.exists()


async def test_the_admin_socket_serves_health_and_no_identities(start_agent, folder):
    agent = await start_agent(admin_socket_path=folder / "admin" / "admin.sock")
    async with Channel.unix(str(agent.config.admin_socket_path)) as channel:
        await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
        with pytest.raises(GRPCError) as caught:
            await stub.FetchJWTSVID(workload_pb2.JWTSVIDRequest(), metadata={"workload.spiffe.io": "true"})
    assert caught.value.status is Status.UNIMPLEMENTED


STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid(4321)
os.setuid(4321)
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(20)
    connection.connect(sys.argv[1])
    try:
        connection.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")
        data = connection.recv(1)
    except ConnectionError:
        data = b""
sys.exit(0 if data == b"" else 3)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to call as another user")
async def test_a_stranger_on_the_admin_socket_is_turned_away(start_agent, folder):
    """Threat 13: the kernel's word counts beside the mode, which somebody opened by mistake."""
    agent = await start_agent(admin_socket_path=folder / "admin" / "admin.sock")
    path = agent.config.admin_socket_path
    path.chmod(0o777)
    for way in (path.parent, folder):
        way.chmod(0o755)
    with anyio.fail_after(60):
        result = await anyio.run_process([sys.executable, "-c", STRANGER, str(path)], check=False)
    assert result.returncode == 0, result.stderr
    with anyio.fail_after(60):
        result = await anyio.run_process([sys.executable, "-c", STRANGER, str(agent.config.socket_path)], check=False)
    assert result.returncode == 3, "the other socket answers everybody, so the refusal was the admin socket's own"


@pytest.mark.parametrize(
    ("uid", "own", "allowed"), [(0, 0, True), (0, 500, True), (500, 500, True), (501, 500, False), (500, 0, False)]
)
def test_who_may_administer(uid, own, allowed):
    assert may_administer(uid, own) is allowed


async def test_without_the_workload_api_there_is_no_public_socket(start_agent, folder):
    agent = await start_agent(socket_path=None)
    assert not (folder / "public").exists()
    assert await agent.stop() == 0


async def test_http_probes(server, start_agent, entry):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server.tokens.clear()
    agent = await start_agent(wait=False, health=HealthListenerSettings("127.0.0.1", port))

    async def ask(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.decode().splitlines()[0].split()[1]

    assert await ask("/live") == "200"
    assert await ask("/ready") == "500"
    server.tokens.add("good-token")
    from icp_agent.domain.agent_state import Phase

    await agent.until(Phase.READY)
    assert await ask("/ready") == "200"
