"""Authorities over their life: published before they sign, found again after a restart, written by one at a time."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.spiffe import X509SVID, TrustDomain
from icp_server.ca.journal import JournalError, decode_journals, encode_journals
from icp_server.ca.keys import KeyManager
from icp_server.ca.keys_disk import DiskKeyManager
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.lifecycle import CALifecycle
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.server_identity import ServerIdentity
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.ca_slots import Status
from icp_server.domain.errors import InvalidArgument, JournalConflictError, StoreError, Unavailable
from icp_server.domain.key_type import KeyType
from icp_server.store.database import Database
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")


class CA:
    """A server's CA over a store, as after a start of the process."""

    def __init__(self, store: SQLStore, keys: KeyManager, clock: Any, **settings: Any) -> None:
        self.store, self.clock = store, clock
        self.signer = SVIDSigner(store.trust_domain, Lifetimes(), clock)
        self.tokens = SVIDTokenSigner(store.trust_domain, TokenSettings(), clock)
        kinds = slot_kinds(store, self.signer, self.tokens, CASettings(**settings))
        self.rotator = AuthorityRotator(store, keys, kinds, clock)
        self.identity = ServerIdentity(store, self.signer, clock)
        self.lifecycle = CALifecycle(self.rotator, self.identity, clock, tick=timedelta(milliseconds=5))

    @property
    def active(self) -> str:
        return self.signer.authority.record.authority_id

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(record.slot, record.status.value) for record in self.rotator.journal(AuthorityKind.X509).records]

    async def published(self) -> set[str]:
        bundle = await self.store.bundles.get(self.store.trust_domain)
        assert bundle is not None
        return {
            root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
            for root in bundle.x509_authorities
        }


@pytest.fixture
def keys(tmp_path: Path) -> DiskKeyManager:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return DiskKeyManager(folder / "keys.json")


async def test_the_first_authority_is_active_at_once(store: SQLStore, clock: Any) -> None:
    ca = CA(store, MemoryKeyManager(), clock)
    with pytest.raises(Unavailable):
        _ = ca.signer.authority
    await ca.rotator.start()
    assert ca.states == [("A", "active")]
    assert await ca.published() == {ca.active}
    assert not await ca.rotator.tick()


async def test_the_next_one_is_published_long_before_it_signs(store: SQLStore, clock: Any) -> None:
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.rotator.start()
    first = ca.active
    clock.forward(hours=12)
    assert await ca.rotator.tick()
    assert ca.states == [("A", "active"), ("B", "prepared")]
    assert ca.active == first
    assert len(await ca.published()) == 2
    assert not await ca.rotator.tick()
    clock.forward(hours=8)
    assert await ca.rotator.tick()
    assert ca.states == [("A", "old"), ("B", "active")]
    assert ca.active != first
    assert await ca.published() == {first, ca.active}
    clock.forward(hours=4)
    assert await ca.rotator.tick()
    assert ca.states == [("A", "old"), ("B", "active"), ("A", "prepared")]


async def test_after_a_long_absence_there_is_a_new_authority_at_once(
    store: SQLStore, clock: Any, keys: DiskKeyManager
) -> None:
    first = CA(store, keys, clock)
    await first.rotator.start()
    clock.forward(days=3)
    again = CA(store, keys, clock)
    await again.rotator.start()
    assert again.active != first.active
    assert again.states[-1] == ("A", "active") or again.states[-1] == ("B", "active")
    assert again.active in await again.published()


async def test_keys_on_disk_carry_authorities_over_a_restart(store: SQLStore, clock: Any, keys: DiskKeyManager) -> None:
    first = CA(store, keys, clock)
    await first.rotator.start()
    clock.forward(hours=12)
    await first.rotator.tick()
    again = CA(store, keys, clock)
    await again.rotator.start()
    assert again.active == first.active
    assert again.states == [("A", "active"), ("B", "prepared")]
    prepared = first.rotator.journal(AuthorityKind.X509).having(Status.PREPARED)
    assert prepared is not None
    clock.forward(hours=8)
    await again.rotator.tick()
    assert again.active == prepared.authority_id
    assert len(await again.published()) == 2


async def test_keys_in_memory_leave_the_old_root_in_the_bundle(store: SQLStore, clock: Any) -> None:
    first = CA(store, MemoryKeyManager(), clock)
    await first.rotator.start()
    again = CA(store, MemoryKeyManager(), clock)
    await again.rotator.start()
    assert await again.published() == {first.active, again.active}
    assert len(await store.journals.all()) == 2


async def test_a_lost_key_is_replaced(store: SQLStore, clock: Any, keys: DiskKeyManager) -> None:
    """The journal says A is active, but the key in slot A is another: as after a kill between key and journal."""
    first = CA(store, keys, clock)
    await first.rotator.start()
    clock.forward(hours=12)
    await first.rotator.tick()
    prepared = first.rotator.journal(AuthorityKind.X509).having(Status.PREPARED)
    assert prepared is not None
    keys.generate("x509-CA-A", KeyType.EC_P256)
    again = CA(store, keys, clock)
    await again.rotator.start()
    assert again.active == prepared.authority_id
    keys.generate("x509-CA-B", KeyType.EC_P256)
    keys.generate("x509-CA-A", KeyType.EC_P256)
    third = CA(store, keys, clock)
    await third.rotator.start()
    assert third.active not in (first.active, prepared.authority_id)


async def test_two_servers_on_one_journal_do_not_both_write_it(
    store: SQLStore, clock: Any, keys: DiskKeyManager
) -> None:
    one = CA(store, keys, clock)
    await one.rotator.start()
    two = CA(store, keys, clock)
    await two.rotator.start()
    assert one.active == two.active
    clock.forward(hours=12)
    await one.rotator.tick()
    with pytest.raises(JournalConflictError):
        await two.rotator.tick()
    assert two.states == one.states == [("A", "active"), ("B", "prepared")]  # it has read again
    clock.forward(hours=8)
    await two.rotator.tick()
    with pytest.raises(JournalConflictError):
        await one.rotator.tick()
    await one.rotator.tick()
    assert one.active == two.active
    assert all(one.rotator.journal(kind) == two.rotator.journal(kind) for kind in AuthorityKind)
    assert one.active in await one.published()


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda key_type: key_type.value)
async def test_key_types(store: SQLStore, clock: Any, key_type: KeyType) -> None:
    ca = CA(store, MemoryKeyManager(), clock, key_type=key_type)
    await ca.lifecycle.start()
    svid = ca.identity.holder.x509_context.svid
    assert str(svid.id) == "spiffe://example.org/spire/server"


async def test_pruning_keeps_what_may_still_be_needed(store: SQLStore, clock: Any, keys: DiskKeyManager) -> None:
    ca = CA(store, keys, clock)
    await ca.rotator.start()
    first = ca.active
    clock.forward(hours=20)
    await ca.rotator.tick()
    assert len(await ca.published()) == 2
    clock.forward(hours=27)  # the first expired 23 h ago
    assert not await ca.rotator.prune()
    clock.forward(hours=2)
    assert await ca.rotator.prune()
    assert first not in await ca.published()
    await ca.rotator.tick()
    clock.forward(days=15)
    await ca.rotator.tick()
    await ca.rotator.prune()
    records = {record.authority_id for record in ca.rotator.journal(AuthorityKind.X509).records}
    assert first not in records
    assert ca.active in records


async def test_pruning_forgets_journals_of_servers_long_gone(store: SQLStore, clock: Any) -> None:
    await CA(store, MemoryKeyManager(), clock).rotator.start()
    clock.forward(days=14)
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.rotator.start()
    await ca.rotator.prune()
    assert len(await store.journals.all()) == 2
    clock.forward(days=2)
    await ca.rotator.tick()
    await ca.rotator.prune()
    assert len(await store.journals.all()) == 1


async def test_the_servers_own_svid_is_renewed_at_half_life(store: SQLStore, clock: Any) -> None:
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.lifecycle.start()
    first = ca.identity.holder.x509_context
    assert isinstance(first.svid, X509SVID)
    assert first.bundles.require(TD).contains_der(ca.signer.authority.record.data)
    clock.forward(minutes=29, seconds=50)  # half of an hour and ten seconds
    assert not await ca.identity.refresh()
    clock.forward(seconds=20)
    assert await ca.identity.refresh()
    second = ca.identity.holder.x509_context
    assert second.svid.leaf != first.svid.leaf
    assert second.svid.private_key is not first.svid.private_key
    second.svid.leaf.verify_directly_issued_by(x509.load_der_x509_certificate(ca.signer.authority.record.data))


async def test_a_new_root_is_published_to_the_listener_without_a_new_svid(store: SQLStore, clock: Any) -> None:
    ca = CA(store, MemoryKeyManager(), clock, ca_ttl=timedelta(minutes=50))
    await ca.lifecycle.start()
    before = ca.identity.holder.x509_context
    clock.forward(minutes=25)
    await ca.lifecycle.step()
    after = ca.identity.holder.x509_context
    assert len(after.bundles.require(TD)) == 2
    assert len(before.bundles.require(TD)) == 1


async def test_the_lifecycle_goes_on_after_a_failure(
    database: Database, store: SQLStore, clock: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A database that fails for a while stops neither the loop nor what can go on without it."""
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.lifecycle.start()
    await database.close()  # it opens the file again when it is asked, and finds none
    (tmp_path / "server.sqlite3").rename(tmp_path / "away")
    (tmp_path / "server.sqlite3").mkdir()
    clock.forward(hours=13)
    running = asyncio.create_task(ca.lifecycle.run())
    try:
        async with asyncio.timeout(20):
            while "Unable to rotate X509 CA" not in caplog.text or "Could not rotate server SVID" not in caplog.text:
                await asyncio.sleep(0.01)
        (tmp_path / "server.sqlite3").rmdir()
        (tmp_path / "away").rename(tmp_path / "server.sqlite3")
        async with asyncio.timeout(20):
            while ca.states != [("A", "active"), ("B", "prepared")]:
                await asyncio.sleep(0.01)
            while len(ca.identity.holder.x509_context.bundles.require(TD)) != 2:
                await asyncio.sleep(0.01)
        assert not running.done()
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await database.close()


async def test_a_journal_reads_back(store: SQLStore, clock: Any) -> None:
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.rotator.start()
    clock.forward(hours=12)
    await ca.rotator.tick()
    journals = {kind: ca.rotator.journal(kind) for kind in AuthorityKind}
    assert [len(journal.records) for journal in journals.values()] == [2, 2, 0]
    assert decode_journals(encode_journals(journals)) == journals
    assert b"PRIVATE" not in encode_journals(journals)


@pytest.mark.parametrize(
    "wrong",
    [b"", b"null", b"[]", b"{}", b'{"version": 1}', b'{"version": 2, "x509": []}',
     b'{"version": 3, "x509": [], "jwt": [], "wit": []}',
     b'{"version": 1, "x509": [1]}',
     b'{"version": 1, "x509": [{"slot": "C"}]}', b"\xff", b'{"version": 1, "x509": 7}',
     b'{"version": 1, "x509": [{"slot": "A", "authority_id": "zz"}]}'],
)  # fmt: skip
async def test_a_malformed_journal_keeps_the_server_from_starting(store: SQLStore, clock: Any, wrong: bytes) -> None:
    """Starting with a new authority would look like a theft to every agent: somebody has to look first."""
    with pytest.raises(JournalError):
        decode_journals(wrong)
    await store.journals.create(wrong)
    ca = CA(store, MemoryKeyManager(), clock)
    with pytest.raises(StoreError, match="CA journal"):
        await ca.rotator.start()


def kinds(ca: CA) -> dict[str, list[tuple[str, str]]]:
    return {
        kind.value: [(record.slot, record.status.value) for record in ca.rotator.journal(kind).records]
        for kind in AuthorityKind
    }


async def test_a_jwt_key_is_published_when_it_is_prepared_and_signs_when_it_is_activated(
    store: SQLStore, clock: Any
) -> None:
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.rotator.start()
    first = ca.tokens.jwt.key.key_id
    clock.forward(hours=12)
    await ca.rotator.tick()
    bundle = await store.bundles.published(TD)
    assert bundle is not None
    prepared = ca.rotator.local_authorities(AuthorityKind.JWT).next
    assert prepared is not None
    assert list(bundle.bundle.jwt_authorities) == [first, prepared.authority_id]
    assert ca.tokens.jwt.key.key_id == first
    assert bundle.key_expiry[prepared.authority_id] == int((clock() + timedelta(hours=24)).timestamp())
    clock.forward(hours=8)
    await ca.rotator.tick()
    assert ca.tokens.jwt.key.key_id == prepared.authority_id
    assert kinds(ca) == {"x509": [("A", "old"), ("B", "active")], "jwt": [("A", "old"), ("B", "active")], "wit": []}
    clock.forward(hours=29)  # the first ended 25 h ago
    assert await ca.rotator.prune()
    bundle = await store.bundles.published(TD)
    assert bundle is not None
    assert first not in bundle.bundle.jwt_authorities


async def test_all_kinds_of_authorities_survive_a_restart(store: SQLStore, clock: Any, keys: DiskKeyManager) -> None:
    first = CA(store, keys, clock, wit=True)
    await first.rotator.start()
    clock.forward(hours=12)
    await first.rotator.tick()
    again = CA(store, keys, clock, wit=True)
    await again.rotator.start()
    both = [("A", "active"), ("B", "prepared")]
    assert kinds(again) == kinds(first) == dict.fromkeys(("x509", "jwt", "wit"), both)
    for one, other in ((first.tokens.jwt, again.tokens.jwt), (first.tokens.wit, again.tokens.wit)):
        assert one.key.key_id == other.key.key_id
    assert first.tokens.jwt.key.key_id != first.tokens.wit.key.key_id
    assert len(await store.journals.all()) == 1


async def test_a_kind_that_was_switched_off_keeps_its_place_in_the_journal(
    store: SQLStore, clock: Any, keys: DiskKeyManager
) -> None:
    first = CA(store, keys, clock)
    await first.rotator.start()
    off = CA(store, keys, clock, jwt=False)
    await off.rotator.start()
    with pytest.raises(Unavailable):
        _ = off.tokens.jwt.key
    with pytest.raises(Unavailable, match="server is initializing"):
        off.rotator.local_authorities(AuthorityKind.JWT)
    clock.forward(hours=12)
    await off.rotator.tick()
    assert kinds(off)["jwt"] == [("A", "active")]
    again = CA(store, keys, clock)
    await again.rotator.start()
    assert again.tokens.jwt.key.key_id == first.tokens.jwt.key.key_id


async def test_a_journal_of_the_first_version_is_gone_on_from(
    store: SQLStore, clock: Any, keys: DiskKeyManager
) -> None:
    """Written by a release that knew X.509 authorities alone."""
    first = CA(store, keys, clock, jwt=False)
    await first.rotator.start()
    [stored] = await store.journals.all()
    document = json.loads(stored.data)
    old = {"version": 1, "x509": document["x509"]}
    await store.journals.replace(stored, json.dumps(old).encode())
    again = CA(store, keys, clock)
    await again.rotator.start()
    assert again.active == first.active
    assert kinds(again) == {"x509": [("A", "active")], "jwt": [("A", "active")], "wit": []}


async def test_a_lost_jwt_key_is_replaced(store: SQLStore, clock: Any, keys: DiskKeyManager) -> None:
    first = CA(store, keys, clock)
    await first.rotator.start()
    keys.generate("JWT-Signer-A", KeyType.EC_P256)
    again = CA(store, keys, clock)
    await again.rotator.start()
    assert again.active == first.active
    assert again.tokens.jwt.key.key_id != first.tokens.jwt.key.key_id
    bundle = await store.bundles.get(TD)
    assert bundle is not None
    assert set(bundle.jwt_authorities) == {first.tokens.jwt.key.key_id, again.tokens.jwt.key.key_id}


@pytest.mark.parametrize("kind", list(AuthorityKind))
async def test_an_operator_prepares_and_activates(
    store: SQLStore, clock: Any, keys: DiskKeyManager, kind: AuthorityKind
) -> None:
    ca = CA(store, keys, clock, wit=True)
    await ca.lifecycle.start()
    first = ca.lifecycle.local_authorities(kind).active
    skipped = await ca.lifecycle.prepare(kind)
    prepared = await ca.lifecycle.prepare(kind)
    assert prepared.authority_id != skipped.authority_id
    with pytest.raises(InvalidArgument, match="unexpected authority ID"):
        await ca.lifecycle.activate(kind, skipped.authority_id)
    await ca.lifecycle.activate(kind, prepared.authority_id)
    found = ca.lifecycle.local_authorities(kind)
    assert found.active.authority_id == prepared.authority_id
    assert found.next is not None
    assert (found.next.authority_id, found.next.status) == (first.authority_id, Status.OLD)
    again = CA(store, keys, clock, wit=True)
    await again.rotator.start()
    assert again.rotator.local_authorities(kind).active == found.active


async def test_a_prepared_authority_without_its_key_is_not_activated(
    store: SQLStore, clock: Any, keys: DiskKeyManager
) -> None:
    first = CA(store, keys, clock)
    await first.lifecycle.start()
    prepared = await first.lifecycle.prepare(AuthorityKind.JWT)
    keys.generate("JWT-Signer-B", KeyType.EC_P256)
    again = CA(store, keys, clock)
    await again.rotator.start()
    with pytest.raises(Unavailable, match="prepare another one"):
        await again.rotator.activate(AuthorityKind.JWT, prepared.authority_id)


async def test_two_servers_do_not_both_move_an_authority_by_hand(
    store: SQLStore, clock: Any, keys: DiskKeyManager
) -> None:
    one, two = CA(store, keys, clock), CA(store, keys, clock)
    await one.rotator.start()
    await two.rotator.start()
    prepared = await one.rotator.prepare(AuthorityKind.X509)
    with pytest.raises(JournalConflictError):
        await two.rotator.prepare(AuthorityKind.X509)
    assert two.rotator.local_authorities(AuthorityKind.X509).next == prepared


async def test_the_servers_own_svid_leaves_a_tainted_authority_at_once(store: SQLStore, clock: Any) -> None:
    ca = CA(store, MemoryKeyManager(), clock)
    await ca.lifecycle.start()
    old = ca.lifecycle.local_authorities(AuthorityKind.X509).active
    before = ca.identity.holder.x509_context.svid
    prepared = await ca.lifecycle.prepare(AuthorityKind.X509)
    await ca.lifecycle.activate(AuthorityKind.X509, prepared.authority_id)
    assert not await ca.identity.refresh()  # activation alone renews nothing
    await store.authorities.taint(AuthorityKind.X509, old.authority_id)
    await ca.lifecycle.bundle_changed()
    after = ca.identity.holder.x509_context.svid
    assert after.leaf != before.leaf
    after.leaf.verify_directly_issued_by(x509.load_der_x509_certificate(prepared.data))
    assert not await ca.identity.refresh()
    await store.authorities.revoke(AuthorityKind.X509, old.authority_id)
    await ca.lifecycle.bundle_changed()
    assert len(ca.identity.holder.x509_context.bundles.require(TD)) == 1
    assert ca.identity.holder.x509_context.svid == after
