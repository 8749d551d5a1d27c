"""A server's inner parts over a real SQLite file, with a clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.rotator import AuthorityRotator, CASettings
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.nodeattestors.registry import node_attestors
from icp_server.services.agents import AgentService
from icp_server.services.bundles import BundleService
from icp_server.services.entries import EntryService
from icp_server.services.svids import SVIDService
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore


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
    rotator: AuthorityRotator
    entries: EntryService
    agents: AgentService
    svids: SVIDService
    bundles: BundleService


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


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(tmp_path / "server.sqlite3") as opened:
        yield opened


@pytest.fixture
async def store(database: Database, trust_domain: TrustDomain, clock: MovableClock) -> SQLStore:
    return await SQLStore.bind(database, trust_domain, clock)


@pytest.fixture
async def server(store: SQLStore, clock: MovableClock) -> Server:
    signer = SVIDSigner(store.trust_domain, Lifetimes(), clock)
    rotator = AuthorityRotator(store, MemoryKeyManager(), signer, CASettings(), clock)
    await rotator.start()
    entries = EntryService(store, clock)
    agents = AgentService(store, signer, node_attestors(["join_token"], store, clock), clock)
    return Server(store, signer, rotator, entries, agents, SVIDService(store, signer, entries), BundleService(store))
