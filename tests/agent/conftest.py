"""A scripted SPIRE server over real TLS, and agents that run against it in this process."""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.authz import unsafe_authorize_any
from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.proto.spire import (
    agent_grpc,
    agent_pb2,
    bundle_grpc,
    entry_grpc,
    entry_pb2,
    svid_grpc,
    svid_pb2,
    types_pb2,
)
from authsec_sdk.rpc import Channel, GRPCError, Server, Status, current_call
from authsec_sdk.spiffe import BundleSet, TrustBundle, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.spire.svids import IssuedX509SVID
from authsec_sdk.spire.wire import bundle_to_wire, svid_to_wire
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import mtls_server_context, peer_spiffe_id
from icp_agent.app import Agent
from icp_agent.bootstrap import BootstrapTrust
from icp_agent.config import AgentConfig
from icp_agent.domain.agent_state import DenialReason, Phase
from icp_agent.nodeattestors import join_token
from icp_agent.syncer import SyncSettings
from icp_agent.workloadattestors.unix import UnixSettings
from icp_common.service import Service

HEADER = {"workload.spiffe.io": "true"}
UID = f"uid:{os.getuid()}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since paths of sockets may have 107 bytes."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="icpa"))
    yield path
    shutil.rmtree(path)


def entry(id_: str, path: str = "/web", *selectors: str, **fields: Any) -> types_pb2.Entry:
    return types_pb2.Entry(
        id=id_,
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=path),
        selectors=[
            types_pb2.Selector(type=text.partition(":")[0], value=text.partition(":")[2])
            for text in selectors or (f"unix:{UID}",)
        ],
        **fields,
    )


class FakeSpireServer(agent_grpc.AgentBase, bundle_grpc.BundleBase, entry_grpc.EntryBase, svid_grpc.SVIDBase):
    """Does what a SPIRE server does for agents, and whatever else a test tells it to.

    `script` maps a method's name to an async function of the call that runs before it: it may raise, wait, or answer
    by itself and return True.
    """

    def __init__(self) -> None:
        self.ca = TestCA("example.org")
        self.serving_ca: TestCA | None = None  # another one makes this server an impostor
        self.server_path = "/spire/server"
        self.tokens: set[str] = set()
        self.entries: dict[str, types_pb2.Entry] = {}
        self.federated: dict[str, X509Bundle] = {}
        self.page_size = 500
        self.maximum_batch = 500
        self.svid_ttl = timedelta(hours=1)
        self.agent_ttl = timedelta(hours=1)
        self.denial: DenialReason | None = None
        self.script: dict[str, Callable[[Any], Awaitable[bool]]] = {}
        self.calls: Counter[str] = Counter()
        self.batches: list[int] = []
        self.asked_ids: list[int] = []
        self.attested_keys: list[bytes] = []
        self.serials: list[str] = []
        self.port = 0
        self._server: Server | None = None

    # --- running

    async def start(self) -> None:
        ca = self.serving_ca or self.ca
        self._svid = ca.svid(self.server_path)
        self._source = X509ContextHolder(X509Context((self._svid,), BundleSet.of(self.ca.bundle())))
        tls = mtls_server_context(self._source, unsafe_authorize_any(), client_certificate="request", alpn=("h2",))
        self._server = Server([_Part(self, base) for base in _PARTS], interceptor=self._intercept)
        _, self.port = await self._server.listen_tcp("127.0.0.1", self.port, ssl=tls)

    def rotate(self) -> None:
        """Sign with a new root from now on, and believe what it signs."""
        self.ca.rotate()
        self._source.publish(X509Context((self._svid,), BundleSet.of(self.ca.bundle())))

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.close()
            self._server = None

    async def _intercept(self, call: Any, proceed: Any) -> None:
        name = call.method.rpartition("/")[2]
        self.calls[name] += 1
        if name not in ("AttestAgent", "GetBundle"):
            self._authorize(call)
        act = self.script.get(name)
        if act is None or not await act(call):
            await proceed()

    def _authorize(self, call: Any) -> None:
        if peer_spiffe_id(call.peer.ssl_object) is None:
            raise GRPCError(Status.UNAUTHENTICATED, "no client certificate")
        certificate = x509.load_der_x509_certificate(call.peer.ssl_object.getpeercert(binary_form=True))
        self.serials.append(str(certificate.serial_number))
        if self.denial is not None:
            details = types_pb2.PermissionDeniedDetails(reason=int(self.denial))
            raise GRPCError(Status.PERMISSION_DENIED, f"authorization denied for method {call.method}", [details])

    # --- signing

    def sign(self, csr: bytes, path: str, ttl: timedelta, ca: TestCA | None = None) -> types_pb2.X509SVID:
        key = x509.load_der_x509_csr(csr).public_key()
        credential = (ca or self.ca).credential(path, key=_PublicOnly(key), private_key=None, ttl=ttl)
        spiffe_id = (ca or self.ca).id(path)
        expires = int(credential.certificates[0].not_valid_after_utc.timestamp())
        return svid_to_wire(IssuedX509SVID(spiffe_id, credential.certificates, expires))

    def bundle(self) -> types_pb2.Bundle:
        bundle = self.ca.bundle()
        return bundle_to_wire(TrustBundle(bundle.trust_domain, bundle.authorities, sequence_number=1))

    # --- AttestAgent, RenewAgent, PostStatus

    async def AttestAgent(self, stream: Any) -> None:
        request = await stream.recv_message()
        csr = request.params.params.csr
        self.attested_keys.append(x509.load_der_x509_csr(csr).public_key().public_bytes(*_SPKI))
        token = request.params.data.payload.decode()
        if token not in self.tokens:
            message = "failed to attest: join token does not exist or has already been used"
            raise GRPCError(Status.INVALID_ARGUMENT, message)
        self.tokens.discard(token)
        svid = self.sign(csr, f"/spire/agent/join_token/{token}", self.agent_ttl)
        result = agent_pb2.AttestAgentResponse.Result(svid=svid, reattestable=False)
        await stream.send_message(agent_pb2.AttestAgentResponse(result=result))

    async def RenewAgent(self, stream: Any) -> None:
        request = await stream.recv_message()
        agent = peer_spiffe_id(current_call().peer.ssl_object)
        assert agent is not None
        await stream.send_message(
            agent_pb2.RenewAgentResponse(svid=self.sign(request.params.csr, agent.path, self.agent_ttl))
        )

    async def PostStatus(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(agent_pb2.PostStatusResponse())

    # --- bundles

    async def GetBundle(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(self.bundle())

    async def GetFederatedBundle(self, stream: Any) -> None:
        request = await stream.recv_message()
        bundle = self.federated.get(request.trust_domain)
        if bundle is None:
            raise GRPCError(Status.NOT_FOUND, "bundle not found")
        await stream.send_message(bundle_to_wire(TrustBundle(bundle.trust_domain, bundle.authorities)))

    # --- entries

    async def GetAuthorizedEntries(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(entry_pb2.GetAuthorizedEntriesResponse(entries=self.entries.values()))

    async def SyncAuthorizedEntries(self, stream: Any) -> None:
        request = await stream.recv_message()
        if request.ids or not request.output_mask.revision_number:
            raise GRPCError(Status.INVALID_ARGUMENT, "the first request has the mask alone")
        response = entry_pb2.SyncAuthorizedEntriesResponse
        entries = list(self.entries.values())
        if len(entries) <= self.page_size:
            await stream.send_message(response(entries=entries))
            return
        for start in range(0, len(entries), self.page_size):
            page = entries[start : start + self.page_size]
            revisions = [
                entry_pb2.EntryRevision(id=e.id, revision_number=e.revision_number, created_at=e.created_at)
                for e in page
            ]
            more = start + self.page_size < len(entries)
            await stream.send_message(response(entry_revisions=revisions, more=more))
        async for request in stream:
            self.asked_ids.append(len(request.ids))
            wanted = [self.entries[id_] for id_ in request.ids if id_ in self.entries]
            await stream.send_message(response(entries=wanted))

    # --- SVIDs

    async def BatchNewX509SVID(self, stream: Any) -> None:
        request = await stream.recv_message()
        self.batches.append(len(request.params))
        if len(request.params) > self.maximum_batch:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"rate ({len(request.params)}) exceeds burst size")
        results = [self.sign_entry(params) for params in request.params]
        await stream.send_message(svid_pb2.BatchNewX509SVIDResponse(results=results))

    def sign_entry(self, params: svid_pb2.NewX509SVIDParams) -> svid_pb2.BatchNewX509SVIDResponse.Result:
        result = svid_pb2.BatchNewX509SVIDResponse.Result
        known = self.entries.get(params.entry_id)
        if known is None:
            return result(status=types_pb2.Status(code=5, message="entry not found or not authorized"))
        return result(svid=self.sign(params.csr, known.spiffe_id.path, self.svid_ttl))


class _PublicOnly:
    """A key of which only the public half is known, as a signer sees it."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def public_key(self) -> Any:
        return self._key


class _Part:
    """One of the services, answered by the server's methods."""

    def __init__(self, server: FakeSpireServer, base: Any) -> None:
        self._mapping = base.__mapping__(server)

    def __mapping__(self) -> Any:
        return self._mapping


_PARTS = (agent_grpc.AgentBase, bundle_grpc.BundleBase, entry_grpc.EntryBase, svid_grpc.SVIDBase)
_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class GuestService(Service):
    """A service within pytest's process, whose garbage collection is not its to arrange."""

    def ready(self, status: str = "") -> None:
        pass


class RunningAgent:
    """An agent in this process, with short intervals."""

    def __init__(self, config: AgentConfig, **options: Any) -> None:
        self.config = config
        self.agent = Agent(config, "1.2.3", **options)
        self.service = GuestService()
        self._task: asyncio.Task[int] | None = None

    @property
    def phase(self) -> Phase:
        return self.agent.board.status.phase

    @property
    def problem(self) -> str:
        return self.agent.board.status.problem

    async def start(self) -> None:
        self._task = asyncio.create_task(self.agent.run(self.service))
        await eventually(lambda: self.phase is not Phase.STARTING or self._task.done())
        if self._task.done():
            task, self._task = self._task, None
            task.result()

    async def stop(self) -> int | None:
        if self._task is None:
            return None
        self.service.stop()
        task, self._task = self._task, None
        return await task

    async def until(self, phase: Phase) -> None:
        await eventually(lambda: self.phase is phase, lambda: f"{self.agent.board.status} {self.problem}")

    def channel(self) -> Channel:
        return Channel.unix(str(self.config.socket_path), max_backoff=0)


async def eventually(
    condition: Callable[[], Any], explain: Callable[[], str] = lambda: "", *, seconds: float = 30
) -> None:
    """Wait until the condition holds; generous, since the machine may be busy."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"did not happen within {seconds} s: {explain()}")


@pytest.fixture
async def server() -> AsyncIterator[FakeSpireServer]:
    fake = FakeSpireServer()
    fake.tokens.add("good-token")
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def configure(server: FakeSpireServer, folder: Path) -> Callable[..., AgentConfig]:
    """A configuration against the fake server; keyword arguments replace settings."""

    def make(**settings: Any) -> AgentConfig:
        bundle = folder / "bundle.pem"
        if not bundle.exists():
            bundle.write_bytes(server.ca.bundle().to_pem())
        values = {
            "trust_domain": server.ca.trust_domain,
            "server_address": "127.0.0.1",
            "server_port": server.port,
            "trust": BootstrapTrust(path=bundle),
            "data_dir": folder / "data",
            "keys_directory": folder / "data",
            "node_attestor": join_token.make,
            "workload_attestors": (UnixSettings(),),
            "socket_path": folder / "public" / "api.sock",
            "join_token": "good-token",
            "sync": SyncSettings(interval=timedelta(milliseconds=50)),
        }
        return AgentConfig(**(values | settings))

    return make


@pytest.fixture
async def start_agent(configure: Callable[..., AgentConfig]) -> AsyncIterator[Callable[..., Awaitable[RunningAgent]]]:
    """Starts agents and stops them at the end; `wait=False` returns before one is ready."""
    async with AsyncExitStack() as stack:

        async def start(*, wait: bool = True, options: dict[str, Any] | None = None, **settings: Any) -> RunningAgent:
            agent = RunningAgent(configure(**settings), **(options or {}))
            stack.push_async_callback(agent.stop)
            await agent.start()
            if wait:
                await agent.until(Phase.READY)
            return agent

        yield start


@pytest.fixture(name="entry")
def _entry() -> Callable[..., types_pb2.Entry]:
    return entry


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Awaitable[None]]:
    return eventually


class Workload:
    """This process as a workload of an agent."""

    def __init__(self, agent: RunningAgent) -> None:
        self._agent = agent

    @asynccontextmanager
    async def svids(self, *, path: str | None = None) -> AsyncIterator[Any]:
        """A stream of X509SVIDResponse: `await stream.recv_message()`."""
        async with self._stub(path) as stub, stub.FetchX509SVID.open(timeout=60, metadata=HEADER) as stream:
            await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
            yield stream

    @asynccontextmanager
    async def bundles(self) -> AsyncIterator[Any]:
        async with self._stub(None) as stub, stub.FetchX509Bundles.open(timeout=60, metadata=HEADER) as stream:
            await stream.send_message(workload_pb2.X509BundlesRequest(), end=True)
            yield stream

    async def fetch(self) -> Any:
        async with self.svids() as stream:
            return await self.next(stream)

    async def ids(self) -> list[str]:
        return [svid.spiffe_id for svid in (await self.fetch()).svids]

    @staticmethod
    async def next(stream: Any) -> Any:
        message = await stream.recv_message()
        if message is None:
            await stream.recv_trailing_metadata()
            pytest.fail("the stream ended with OK")
        return message

    async def refusal(self, stream: Any = None) -> GRPCError:
        """The error a call, or the rest of a stream, ends with; messages before it are passed over."""
        with pytest.raises(GRPCError) as caught:
            if stream is None:
                await self.fetch()
            while True:
                await self.next(stream)
        return caught.value

    @asynccontextmanager
    async def _stub(self, path: str | None) -> AsyncIterator[Any]:
        channel = Channel.unix(path, max_backoff=0) if path else self._agent.channel()
        async with channel:
            yield workload_grpc.SpiffeWorkloadAPIStub(channel)


@pytest.fixture
def workload() -> type[Workload]:
    return Workload
