"""A server's inner parts over a real SQLite file, with a clock the test moves."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsec_sdk.authz import authorize_id
from authsec_sdk.hcl import Fields
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, bundle_grpc, bundle_pb2, svid_grpc, svid_pb2, types_pb2
from authsec_sdk.rpc import Channel
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, TrustDomain, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.reserved_ids import server_id
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.spire.wire import bundle_from_wire
from authsec_sdk.tls import mtls_client_context, tls_client_context
from icp_server.app import ICPServer
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.lifecycle import CALifecycle
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.server_identity import ServerIdentity
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.config.connection_string import parse_connection_string
from icp_server.config.model import (
    DataStore,
    Listeners,
    Plugins,
    RateLimitSwitches,
    ServerConfig,
)
from icp_server.domain.key_settings import DiskKeys
from icp_server.domain.postgres_settings import PostgresSettings
from icp_server.nodeattestors import join_token
from icp_server.nodeattestors.registry import node_attestors
from icp_server.services.agents import AgentService
from icp_server.services.bundles import BundleService
from icp_server.services.entries import EntryService
from icp_server.services.local_authority import LocalAuthorityService
from icp_server.services.svids import SVIDService
from icp_server.services.tokens import TokenProfiles, TokenService
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore
from tests.postgres_cluster import Cluster, binary

JOIN_TOKEN = {"join_token": join_token.read(Fields((), ""))}


class MovableClock:
    """A clock that stands still until it is moved; it begins at a whole second, now."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(frozen=True)
class Requester:
    """Somebody with a key, who makes signing requests with it."""

    key: Any

    def csr(self, *, uris: tuple[str, ...] = (), dns: tuple[str, ...] = (), common_name: str = "") -> bytes:
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass
class Server:
    """Everything inside a server, joined as the application joins it."""

    store: SQLStore
    signer: SVIDSigner
    token_signer: SVIDTokenSigner
    rotator: AuthorityRotator
    entries: EntryService
    agents: AgentService
    svids: SVIDService
    bundles: BundleService
    tokens: TokenService
    authorities: LocalAuthorityService


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def trust_domain() -> TrustDomain:
    return TrustDomain("example.org")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def requester() -> Requester:
    return Requester(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def new_requester() -> Callable[..., Requester]:
    def make(key: Any = None) -> Requester:
        return Requester(key or ec.generate_private_key(ec.SECP256R1()))

    return make


@pytest.fixture
def new_entry(trust_domain: TrustDomain) -> Callable[..., RegistrationEntry]:
    """Make entries: `new_entry("web", parent="/agent", selectors="unix:uid:1")`."""

    def make(
        path: str = "workload", *, parent: str = "agent", selectors: str = "unix:uid:1000", **fields: Any
    ) -> RegistrationEntry:
        return RegistrationEntry(
            spiffe_id=SpiffeID.from_path(trust_domain, f"/{path}"),
            parent_id=SpiffeID.from_path(trust_domain, f"/{parent}"),
            selectors=tuple(Selector.parse(text) for text in selectors.split()),
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, made once: to copy it is much quicker than to make another."""
    path = tmp_path_factory.mktemp("migrated") / "new.sqlite3"

    async def make() -> None:
        async with await Database.open(path):
            pass

    asyncio.run(make())
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real PostgreSQL server."""
    if binary("initdb") is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, for its Unix socket
    try:
        with Cluster(folder).running() as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lonely_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of one test, which may stop and start it."""
    if binary("initdb") is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        with Cluster(folder).running() as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_postgres(cluster: Cluster) -> str:
    """The name of a new database, made once: to copy it is much quicker than to make another."""
    name = cluster.new_database()

    async def make() -> None:
        async with await Database.connect(parse_connection_string(cluster.connection_string(name))):
            pass

    asyncio.run(make())
    return name


@pytest.fixture
def new_postgres(cluster: Cluster, migrated_postgres: str) -> Iterator[Callable[..., PostgresSettings]]:
    """Make databases: `new_postgres()` is a migrated one, `new_postgres(migrated=False)` an empty one."""
    made: list[str] = []

    def make(*, migrated: bool = True) -> PostgresSettings:
        made.append(cluster.new_database(migrated_postgres if migrated else "template0"))
        return parse_connection_string(cluster.connection_string(made[-1]))

    yield make
    for name in made:
        cluster.drop(name)


@pytest.fixture
def backend() -> str:
    """Which database `database` is of; a folder's conftest may say both."""
    return "sqlite"


@pytest.fixture
def place(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Path | PostgresSettings:
    """Where a new database of the backend is."""
    if backend == "postgres":
        settings: PostgresSettings = request.getfixturevalue("new_postgres")()
        return settings
    shutil.copy(request.getfixturevalue("migrated"), tmp_path / "server.sqlite3")
    return tmp_path / "server.sqlite3"


@pytest.fixture
async def database(place: Path | PostgresSettings) -> AsyncIterator[Database]:
    async with await (Database.open(place) if isinstance(place, Path) else Database.connect(place)) as opened:
        yield opened


@pytest.fixture
async def store(database: Database, trust_domain: TrustDomain, clock: MovableClock) -> SQLStore:
    return await SQLStore.bind(database, trust_domain, clock)


@pytest.fixture
async def server(store: SQLStore, clock: MovableClock) -> Server:
    signer = SVIDSigner(store.trust_domain, Lifetimes(), clock)
    tokens = SVIDTokenSigner(store.trust_domain, TokenSettings(), clock)
    kinds = slot_kinds(store, signer, tokens, CASettings(wit=True))
    rotator = AuthorityRotator(store, MemoryKeyManager(), kinds, clock)
    await rotator.start()
    entries = EntryService(store, clock)
    agents = AgentService(store, signer, node_attestors(JOIN_TOKEN, store, clock), clock)
    lifecycle = CALifecycle(rotator, ServerIdentity(store, signer, clock), clock)
    profiles = TokenProfiles(wit=True)
    return Server(
        store,
        signer,
        tokens,
        rotator,
        entries,
        agents,
        SVIDService(store, signer, entries),
        BundleService(store, profiles),
        TokenService(tokens, entries, profiles),
        LocalAuthorityService(store, lifecycle, profiles),
    )


async def show_token(channel: Channel, token: str, csr: bytes) -> types_pb2.X509SVID:
    """Attest by a join token; the answer's SVID."""
    params = agent_pb2.AttestAgentRequest.Params(
        data=types_pb2.AttestationData(type="join_token", payload=token.encode()),
        params=agent_pb2.AgentX509SVIDParams(csr=csr),
    )
    async with agent_grpc.AgentStub(channel).AttestAgent.open() as stream:
        await stream.send_message(agent_pb2.AttestAgentRequest(params=params), end=True)
        answer = await stream.recv_message()
        assert answer is not None
        return answer.result.svid


@dataclass
class LiveServer:
    """A whole server on real sockets, and those who call it."""

    config: ServerConfig
    app: ICPServer
    admin: Channel
    """An operator on the Unix socket."""
    parts: AsyncExitStack
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    async def bundle(self) -> X509Bundle:
        message = await bundle_grpc.BundleStub(self.admin).GetBundle(bundle_pb2.GetBundleRequest())
        return bundle_from_wire(message).x509_bundle()

    async def caller(self, svid: X509SVID | None = None, *, bundle: X509Bundle | None = None) -> Channel:
        """A caller over TCP, with a certificate or without one."""
        authorities = BundleSet.of(bundle or await self.bundle())
        holder = X509ContextHolder(X509Context((svid,) if svid else (), authorities))
        make = mtls_client_context if svid else tls_client_context
        context = make(holder, authorize_id(server_id(self.config.trust_domain)), alpn=("h2",))
        return await self.parts.enter_async_context(Channel.tcp(*self.app.tcp_address, ssl=context))

    async def token(self, *, node: str | None = None, ttl: int = 600) -> str:
        request = agent_pb2.CreateJoinTokenRequest(ttl=ttl)
        if node:
            request.agent_id.CopyFrom(types_pb2.SPIFFEID(trust_domain=self.config.trust_domain.name, path=node))
        return (await agent_grpc.AgentStub(self.admin).CreateJoinToken(request)).value

    def csr(self, *, uri: str = "") -> bytes:
        return Requester(self.key).csr(uris=(uri,) if uri else ())

    def svid(self, message: types_pb2.X509SVID) -> X509SVID:
        return X509SVID(tuple(map(x509.load_der_x509_certificate, message.cert_chain)), self.key)

    async def attest(self, token: str | None = None) -> X509SVID:
        """Become an agent by a join token."""
        token = token or await self.token(node="/node")
        return self.svid(await show_token(await self.caller(), token, self.csr()))

    async def mint(self, path: str, *, ttl: int = 0) -> X509SVID:
        request = svid_pb2.MintX509SVIDRequest(csr=self.csr(uri=f"{self.config.trust_domain.id}{path}"), ttl=ttl)
        return self.svid((await svid_grpc.SVIDStub(self.admin).MintX509SVID(request)).svid)


@pytest.fixture(name="show_token")
def _show_token() -> Callable[[Channel, str, bytes], Awaitable[types_pb2.X509SVID]]:
    """Give tests that start a server themselves the way to attest."""
    return show_token


StartServer = Callable[..., Awaitable[LiveServer]]


@pytest.fixture
async def start_server(trust_domain: TrustDomain, migrated: Path) -> AsyncIterator[StartServer]:
    """Start servers: `await start_server(audit_log_enabled=True)`; a folder given twice is a restart."""
    async with AsyncExitStack() as parts:

        async def start(
            folder: Path | None = None,
            *,
            parts: AsyncExitStack = parts,
            options: dict[str, Any] | None = None,
            **settings: Any,
        ) -> LiveServer:
            if folder is None:
                folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a Unix socket's path must be short
                parts.callback(shutil.rmtree, folder, ignore_errors=True)
                (folder / "data").mkdir(mode=0o700)
                shutil.copy(migrated, folder / "data/db.sqlite3")
            config = ServerConfig(
                trust_domain=trust_domain,
                data_dir=folder / "data",
                plugins=Plugins(DataStore(folder / "data/db.sqlite3"), DiskKeys(folder / "keys.json"), JOIN_TOKEN),
                listeners=Listeners("127.0.0.1", 0, folder / "private/api.sock"),
                rate_limits=RateLimitSwitches(attestation=False, signing=False),
            )
            app = await parts.enter_async_context(ICPServer(replace(config, **settings), **(options or {})))
            admin = await parts.enter_async_context(Channel.unix(str(config.listeners.socket_path)))
            return LiveServer(replace(config, **settings), app, admin, parts)

        yield start


@pytest.fixture
async def live(start_server: StartServer) -> LiveServer:
    """A running server with its limits off."""
    return await start_server()


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """A port nobody listened on a moment ago, for programs that cannot say which one they got."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
            return port

    return find
