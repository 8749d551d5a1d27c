"""A whole server on real sockets: TLS as agents meet it, restarts that keep everything, folders it refuses."""

import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.authz import authorize_id, unsafe_authorize_any
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, bundle_grpc, bundle_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import mtls_client_context
from icp_common.folders import UnsafeFolderError
from icp_server.app import Pace
from icp_server.config.model import DataStore, HealthListener, Lifetimes, Plugins
from icp_server.domain.errors import DatabaseInUseError
from icp_server.domain.key_settings import MemoryKeys

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def _count(live: Any) -> int:
    answer = await entry_grpc.EntryStub(live.admin).CountEntries(entry_pb2.CountEntriesRequest())
    count: int = answer.count
    return count


async def _status(live: Any, svid: Any) -> Status:
    try:
        await agent_grpc.AgentStub(await live.caller(svid)).PostStatus(agent_pb2.PostStatusRequest())
    except GRPCError as error:
        return Status(error.status)
    return Status.OK


async def test_a_restart_keeps_everything(start_server: Any, folder: Path) -> None:
    async with AsyncExitStack() as first:
        live = await start_server(folder, parts=first)
        bundle = await live.bundle()
        svid = await live.attest()
        token = await live.token(node="/later")
        entries = await _count(live)
    again = await start_server(folder)
    assert await again.bundle() == bundle
    assert await _count(again) == entries
    assert await _status(again, svid) is Status.OK
    assert (await again.attest(token)).id.path.endswith(token)


async def test_keys_in_memory_add_an_authority_at_a_restart(start_server: Any, folder: Path) -> None:
    plugins = Plugins(DataStore(folder / "data/db.sqlite3"), MemoryKeys())
    async with AsyncExitStack() as first:
        before = await (await start_server(folder, parts=first, plugins=plugins)).bundle()
    after = await (await start_server(folder, plugins=plugins)).bundle()
    assert set(before.authorities) < set(after.authorities)


async def test_a_second_server_on_the_same_database_does_not_start(start_server: Any, folder: Path) -> None:
    await start_server(folder)
    with pytest.raises(DatabaseInUseError):
        await start_server(folder)


async def test_a_stop_lets_the_calls_under_way_end(start_server: Any) -> None:
    async with AsyncExitStack() as parts:
        live = await start_server(parts=parts)
        stub = entry_grpc.EntryStub(await live.caller(await live.attest()))
        async with stub.SyncAuthorizedEntries.open(timeout=30) as stream, anyio.create_task_group() as tasks:
            await stream.send_message(entry_pb2.SyncAuthorizedEntriesRequest())
            tasks.start_soon(live.app.__aexit__, None, None, None)
            answer = await stream.recv_message()
            assert answer is not None
            assert len(answer.entries) == 1
            await stream.end()


async def test_the_admin_socket_is_for_its_owner_and_group(live: Any) -> None:
    path = live.config.listeners.socket_path
    assert path.stat().st_mode & 0o777 == 0o770
    assert path.parent.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("part", ["private", "data"])
async def test_a_folder_that_others_can_write_is_refused(start_server: Any, folder: Path, part: str) -> None:
    """Threat 13: whoever can write there could put a socket or a database of their own in its place."""
    (folder / part).mkdir()
    (folder / part).chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="can be written by others"):
        await start_server(folder)


async def test_a_socket_somebody_serves_is_not_taken(start_server: Any, folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "private/api.sock"))
        other.listen()
        with pytest.raises(OSError, match="another process listens"):
            await start_server(folder)
        assert (folder / "private/api.sock").exists()


async def test_what_a_failed_start_began_is_ended(start_server: Any, folder: Path) -> None:
    live = await start_server()
    taken = replace(live.config.listeners, port=live.app.tcp_address[1], socket_path=folder / "private/api.sock")
    with pytest.raises(OSError, match="in use"):
        await start_server(folder, listeners=taken)
    assert not taken.socket_path.exists()
    await start_server(folder)  # the database is free again


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to call as another user")
async def test_a_stranger_on_the_admin_socket_is_turned_away(live: Any) -> None:
    """Threat 13: the kernel's word counts beside the mode, which somebody opened by mistake."""
    path = live.config.listeners.socket_path
    path.chmod(0o777)
    path.parent.chmod(0o755)
    path.parent.parent.chmod(0o755)
    code = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(4321); os.setuid(4321)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n')\n"
        "    data = s.recv(1)\n"
        "except ConnectionError: data = b''\n"
        "sys.exit(0 if data == b'' else 3)\n"
    )
    with anyio.fail_after(60):
        result = await anyio.run_process(["python3", "-c", code, str(path)], check=False)
    assert result.returncode == 0, result.stderr


def _tls(live: Any, context: ssl.SSLContext) -> tuple[str | None, str | None, bytes | None]:
    with socket.create_connection(live.app.tcp_address, timeout=20) as raw, context.wrap_socket(raw) as tls:
        return tls.version(), tls.selected_alpn_protocol(), tls.getpeercert(binary_form=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_12_and_13_are_spoken_with_h2(live: Any, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    spoken, alpn, certificate = await anyio.to_thread.run_sync(_tls, live, context)
    assert spoken == version.name.replace("_", ".")
    assert alpn == "h2"
    assert certificate


async def test_a_certificate_of_somebody_else_is_refused_in_the_handshake(live: Any) -> None:
    impostor = TestCA("example.org")
    bundle = await live.bundle()
    svid = impostor.svid("/spire/agent/join_token/x")
    holder = X509ContextHolder(X509Context((svid,), BundleSet.of(bundle)))
    context = mtls_client_context(holder, unsafe_authorize_any(), alpn=("h2",))
    async with Channel.tcp(*live.app.tcp_address, ssl=context) as channel:
        with pytest.raises(GRPCError) as caught:
            await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=20)
    assert caught.value.status is Status.UNAVAILABLE


async def test_the_server_shows_its_own_id(live: Any) -> None:
    holder = X509ContextHolder(X509Context((await live.mint("/w"),), BundleSet.of(await live.bundle())))
    wrong = mtls_client_context(holder, authorize_id("spiffe://example.org/other"), alpn=("h2",))
    async with Channel.tcp(*live.app.tcp_address, ssl=wrong) as channel:
        with pytest.raises(GRPCError):
            await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest(), timeout=20)


def _certificate(live: Any) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _tls(live, context)[2]


async def test_certificate_and_authority_rotate_while_agents_are_served(start_server: Any, clock: Any) -> None:
    clock.forward(minutes=-35)
    pace = Pace(rotation=timedelta(milliseconds=20), housekeeping=timedelta(milliseconds=20))
    live = await start_server(lifetimes=Lifetimes(ca=timedelta(hours=1)), options={"clock": clock, "pace": pace})
    svid = await live.attest()
    bundle = await live.bundle()
    certificate = await anyio.to_thread.run_sync(_certificate, live)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live.app.run)
        clock.forward(minutes=35)  # past half the life of both
        with anyio.fail_after(60):
            while await anyio.to_thread.run_sync(_certificate, live) == certificate or await live.bundle() == bundle:
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
    assert set(bundle.authorities) < set((await live.bundle()).authorities)
    assert await _status(live, svid) is Status.OK


async def _get(address: tuple[str, int], request: bytes) -> bytes:
    async with await anyio.connect_tcp(*address) as stream:
        await stream.send(request)
        answer = b""
        with anyio.fail_after(20):
            async for chunk in stream:
                answer += chunk
        return answer


async def test_probes_are_answered_over_http(start_server: Any) -> None:
    live = await start_server(health=HealthListener("127.0.0.1", 0, "/live", "/ready"))
    answer = await _get(live.app.health_address, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'\r\n\r\n{"server":{}}\n')
    assert (await _get(live.app.health_address, b"HEAD /ready HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n")


async def test_what_has_expired_is_removed(start_server: Any) -> None:
    live = await start_server(options={"pace": Pace(housekeeping=timedelta(milliseconds=20))})
    entry = types_pb2.Entry(
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/gone"),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        selectors=[types_pb2.Selector(type="unix", value="uid:1")],
        expires_at=1,
    )
    await entry_grpc.EntryStub(live.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[entry]))
    assert await _count(live) == 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live.app.run)
        with anyio.fail_after(60):
            while await _count(live):
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()


async def test_a_data_folder_that_is_a_file_is_refused(start_server: Any, folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file"):
        await start_server(folder, data_dir=folder / "file")
