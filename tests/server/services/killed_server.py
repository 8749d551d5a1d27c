"""A server's inner parts in a process of their own, which works until it is killed.

Every line it prints is a promise: what is told there was committed, and must be found after the kill.
Run as `python killed_server.py DATABASE KEYS TOKENS SEED`.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from icp_server.ca.keys_disk import DiskKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import InvalidArgument
from icp_server.domain.key_type import KeyType
from icp_server.nodeattestors import join_token
from icp_server.nodeattestors.registry import node_attestors
from icp_server.services.agents import AgentService
from icp_server.services.entries import EntryService
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore

TD = TrustDomain("example.org")


def clock() -> datetime:
    return datetime.now(UTC)


def promise(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def csr() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


async def no_challenge(_: bytes) -> bytes:
    return b""


async def write_entries(entries: EntryService, seed: str) -> None:
    """Batches of five: each batch whole or not at all."""
    for number in range(1_000_000):
        batch = [
            RegistrationEntry(
                id=f"{seed}-{number}-{part}",
                spiffe_id=SpiffeID.parse(f"spiffe://example.org/{seed}/{number}/{part}"),
                parent_id=SpiffeID.parse("spiffe://example.org/agent"),
                selectors=(Selector("unix", f"uid:{number}"), Selector("unix", f"gid:{part}")),
            )
            for part in range(5)
        ]
        assert all(result.ok for result in await entries.create(batch))
        promise("entries", f"{seed}-{number}")
        if number % 4 == 3:
            assert all(result.ok for result in await entries.delete([entry.id for entry in batch]))
            promise("deleted", f"{seed}-{number}")


async def spend_tokens(agents: AgentService, tokens: list[str], worker: int) -> None:
    """Every worker tries every token with a key of its own."""
    for token in tokens[worker:] + tokens[:worker]:
        try:
            result = await agents.attest("join_token", token.encode(), csr(), no_challenge)
        except InvalidArgument:
            continue
        promise("joined", token, result.svid.serial_number)


async def rotate(rotator: AuthorityRotator, keys: DiskKeyManager) -> None:
    """Authorities that live for a second and a half: one is prepared or activated all the time."""
    while True:
        await rotator.tick()
        active = [
            record.authority_id
            for record in rotator.journal(AuthorityKind.X509).records
            if record.status.value == "active"
        ]
        promise("active", *active)
        await asyncio.sleep(0.01)
        keys.generate("other", KeyType.EC_P256)


async def main() -> None:
    path, key_file, tokens, seed = sys.argv[1:]
    async with await Database.open(Path(path)) as database:
        store = await SQLStore.bind(database, TD, clock)
        signer = SVIDSigner(TD, Lifetimes(), clock)
        keys = DiskKeyManager(Path(key_file))
        from datetime import timedelta

        rotator = AuthorityRotator(
            store,
            keys,
            slot_kinds(
                store,
                signer,
                SVIDTokenSigner(store.trust_domain, TokenSettings(), clock),
                CASettings(timedelta(seconds=1.5)),
            ),
            clock,
        )
        await rotator.start()
        entries = EntryService(store, clock)
        attestors = node_attestors({"join_token": join_token.read(Fields((), ""))}, store, clock)
        agents = AgentService(store, signer, attestors, clock)
        if tokens == "new":
            for _ in range(40):
                promise("token", (await agents.create_join_token(3600)).value)
            given: list[str] = []
        else:
            given = tokens.split(",")
        promise("working")
        async with asyncio.TaskGroup() as group:
            group.create_task(write_entries(entries, seed))
            group.create_task(rotate(rotator, keys))
            for worker in range(4):
                group.create_task(spend_tokens(agents, given, worker))


asyncio.run(main())
