"""Three servers, each a process of its own, over one PostgreSQL: one is killed at a time, and no agent's call fails."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.authz import authorize_id
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, bundle_grpc, bundle_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, TrustDomain, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.svids import IssuedX509SVID
from authsec_sdk.spire.wire import bundle_from_wire
from authsec_sdk.tls import tls_client_context
from icp_agent.failover import Failover
from icp_agent.ports import DeniedByServerError, SigningRequest
from icp_agent.server_client import ServerAddress, ServerClient
from tests.postgres_cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
TD = TrustDomain("example.org")
PATIENCE = 120.0

CONFIG = """
server {{
  bind_address = "127.0.0.1"
  bind_port = {port}
  trust_domain = "example.org"
  data_dir = "{folder}/data"
  socket_path = "{folder}/private/api.sock"
  ratelimit {{ attestation = false signing = false }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{ database_type = "postgres" connection_string = "{database}" max_open_conns = 8 }}
  }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""


@dataclass
class Process:
    """One server."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "icp_server", "run", "-config", str(self.folder / "server.conf")]
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, cwd=Path(__file__).parents[3]
            )
        with anyio.fail_after(PATIENCE):
            while not await self.answers():
                assert self.process.returncode is None, self.log()
                await asyncio.sleep(0.05)

    async def answers(self) -> bool:
        try:
            await self.bundle()
        except (GRPCError, OSError):
            return False
        return True

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    def admin(self) -> Channel:
        return Channel.unix(str(self.folder / "private/api.sock"))

    async def bundle(self) -> X509Bundle:
        async with self.admin() as admin:
            answer = await bundle_grpc.BundleStub(admin).GetBundle(bundle_pb2.GetBundleRequest(), timeout=20)
        return bundle_from_wire(answer).x509_bundle()

    async def create_entry(self, path: str, parent: SpiffeID) -> str:
        entry = types_pb2.Entry(
            spiffe_id=types_pb2.SPIFFEID(trust_domain=TD.name, path=path),
            parent_id=types_pb2.SPIFFEID(trust_domain=TD.name, path=parent.path),
            selectors=[types_pb2.Selector(type="unix", value="uid:1")],
        )
        async with self.admin() as admin:
            request = entry_pb2.BatchCreateEntryRequest(entries=[entry])
            answer = await entry_grpc.EntryStub(admin).BatchCreateEntry(request, timeout=20)
        [result] = answer.results
        assert result.status.code == 0, result.status
        return str(result.entry.id)

    async def delete_entry(self, entry_id: str) -> None:
        async with self.admin() as admin:
            request = entry_pb2.BatchDeleteEntryRequest(ids=[entry_id])
            answer = await entry_grpc.EntryStub(admin).BatchDeleteEntry(request, timeout=20)
        assert answer.results[0].status.code == 0

    async def ban(self, agent: SpiffeID) -> None:
        async with self.admin() as admin:
            wanted = types_pb2.SPIFFEID(trust_domain=TD.name, path=agent.path)
            await agent_grpc.AgentStub(admin).BanAgent(agent_pb2.BanAgentRequest(id=wanted), timeout=20)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@dataclass
class Servers:
    """All of them, and what agents do with them."""

    members: list[Process]
    parts: AsyncExitStack
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def csr(self) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    async def attest(self, at: Process, show_token: Any) -> X509SVID:
        async with at.admin() as admin:
            token = await agent_grpc.AgentStub(admin).CreateJoinToken(agent_pb2.CreateJoinTokenRequest(ttl=600))
        source = X509ContextHolder(X509Context((), BundleSet.of(await at.bundle())))
        context = tls_client_context(source, authorize_id(server_id(TD)), alpn=("h2",))
        async with Channel.tcp("127.0.0.1", at.port, ssl=context) as channel:
            answer = await show_token(channel, token.value, self.csr())
        return X509SVID(tuple(map(x509.load_der_x509_certificate, answer.cert_chain)), self.key)

    async def agent(self, svid: X509SVID, bundle: X509Bundle) -> Failover:
        """What an agent with this SVID asks, knowing every address."""
        address = ServerAddress(",".join(f"127.0.0.1:{each.port}" for each in self.members), 1, TD)
        source = X509ContextHolder(X509Context((svid,), BundleSet.of(bundle)))
        client = ServerClient(address, source)
        self.parts.push_async_callback(client.close)
        return Failover(client, len(address.places))

    async def at(self, member: Process, svid: X509SVID, bundle: X509Bundle) -> ServerClient:
        """What the agent asks of one server alone."""
        source = X509ContextHolder(X509Context((svid,), BundleSet.of(bundle)))
        client = ServerClient(ServerAddress("127.0.0.1", member.port, TD), source)
        self.parts.push_async_callback(client.close)
        return client

    async def until_all_serve(self, svid: X509SVID, bundle: X509Bundle, wanted: set[str]) -> None:
        """Wait until every server gives the agent these entries and no others."""
        for member in self.members:
            client = await self.at(member, svid, bundle)
            with anyio.fail_after(PATIENCE):
                while {entry.id for entry in await client.authorized_entries({})} != wanted:
                    await asyncio.sleep(0.005)

    async def until_all_know(self, authorities: int) -> X509Bundle:
        """Wait until every server serves a bundle of so many authorities."""
        with anyio.fail_after(PATIENCE):
            while True:
                bundles = [await each.bundle() for each in self.members]
                if all(len(bundle.authorities) == authorities for bundle in bundles):
                    return bundles[0]
                await asyncio.sleep(0.02)


@pytest.fixture
async def servers(new_postgres: Any, cluster: Cluster, unused_port: Callable[[], int]) -> AsyncIterator[Servers]:
    database = cluster.connection_string(new_postgres(migrated=False).database)
    async with AsyncExitStack() as parts:
        members = []
        for _ in range(3):
            folder = Path(tempfile.mkdtemp(dir="/tmp"))
            parts.callback(shutil.rmtree, folder, ignore_errors=True)
            member = Process(folder, unused_port())
            (folder / "server.conf").write_text(CONFIG.format(port=member.port, folder=folder, database=database))
            members.append(member)
        for member in members:
            parts.push_async_callback(member.kill)
        async with asyncio.TaskGroup() as group:  # all at once: one migrates
            for member in members:
                group.create_task(member.start())
        yield Servers(members, parts)


async def test_one_is_killed_at_a_time_and_no_call_fails(servers: Servers, show_token: Any) -> None:
    bundle = await servers.until_all_know(3)
    svids = [await servers.attest(member, show_token) for member in servers.members]
    agents = [await servers.agent(svid, bundle) for svid in svids]
    created = [await servers.members[0].create_entry(f"/w{n}", svid.id) for n, svid in enumerate(svids)]
    for svid, entry_id in zip(svids, created, strict=True):
        await servers.until_all_serve(svid, bundle, {entry_id})
    done = False
    calls = 0

    async def work(agent: Failover, entry_id: str) -> None:
        nonlocal calls
        known: dict[str, AuthorizedEntry] = {}
        while not done:
            entries = await agent.authorized_entries(known)
            known = {entry.id: entry for entry in entries}
            assert entry_id in known
            [answer] = await agent.sign([SigningRequest(entry_id, servers.csr())])
            assert isinstance(answer, IssuedX509SVID), answer
            assert len((await agent.bundle()).bundle.x509_authorities) == 3
            calls += 3

    async def kill_each() -> None:
        nonlocal done
        for number, member in enumerate(servers.members):
            before = calls
            await member.kill()
            other = servers.members[(number + 1) % 3]
            # The others go on, writes too.
            entry_id = await other.create_entry(f"/while/{number}", svids[0].id)
            await _until(lambda before=before: calls > before + 60)
            await other.delete_entry(entry_id)
            await member.start()
            before = calls
            await _until(lambda before=before: calls > before + 60)
        done = True

    async with asyncio.TaskGroup() as group:
        for agent, entry_id in zip(agents, created, strict=True):
            group.create_task(work(agent, entry_id))
        group.create_task(kill_each())
    assert calls > 300
    assert len((await servers.until_all_know(3)).authorities) == 3  # each came back with its own CA


async def test_what_one_writes_all_obey(servers: Servers, show_token: Any) -> None:
    """An entry, its deletion and a ban, each made at one server, count at every other one."""
    bundle = await servers.until_all_know(3)
    first, *others = servers.members
    svid = await servers.attest(first, show_token)
    entry_id = await others[0].create_entry("/w", svid.id)
    await servers.until_all_serve(svid, bundle, {entry_id})
    await others[1].delete_entry(entry_id)
    await servers.until_all_serve(svid, bundle, set())
    await others[0].ban(svid.id)
    for member in servers.members:
        client = await servers.at(member, svid, bundle)
        with anyio.fail_after(PATIENCE), pytest.raises(DeniedByServerError, match="AGENT_BANNED"):
            while True:
                await client.authorized_entries({})
                await asyncio.sleep(0.005)


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
