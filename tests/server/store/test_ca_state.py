"""Bundles, CA journals and the record of privileged certificates, in a real file."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.ca.authority import self_signed
from icp_server.ca.keys import generate_private_key
from icp_server.domain.errors import JournalConflictError
from icp_server.domain.issued import IssuedSVID, fingerprint
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject, ca_template, new_serial_number
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")


def root(clock: Any, hours: float = 24) -> bytes:
    template = ca_template(TD, clock(), timedelta(hours=hours), CASubject(), new_serial_number())
    return self_signed(template, generate_private_key(KeyType.EC_P256))[0]


async def held(store: SQLStore) -> list[bytes]:
    bundle = await store.bundles.get(TD)
    assert bundle is not None
    return [authority.public_bytes(Encoding.DER) for authority in bundle.x509_authorities]


async def test_a_bundle_grows_and_counts(store: SQLStore, clock: Any) -> None:
    assert await store.bundles.get(TD) is None
    first, second = root(clock), root(clock)
    assert (await store.bundles.append_x509(first)).sequence_number == 0
    assert (await store.bundles.append_x509(second)).sequence_number == 1
    again = await store.bundles.append_x509(first)  # known: no change
    assert again.sequence_number == 1
    assert again == await store.bundles.get(TD)
    assert await held(store) == [first, second]
    assert await store.bundles.get(TrustDomain("other.org")) is None


async def test_pruning_takes_expired_authorities_but_never_the_last(store: SQLStore, clock: Any) -> None:
    assert await store.bundles.prune_x509(clock()) is None
    short, long = root(clock, 1), root(clock, 24)
    await store.bundles.append_x509(short)
    await store.bundles.append_x509(long)
    assert await store.bundles.prune_x509(clock() + timedelta(hours=1)) is None
    pruned = await store.bundles.prune_x509(clock() + timedelta(hours=1, seconds=1))
    assert pruned is not None
    assert pruned.sequence_number == 2
    assert await held(store) == [long]
    assert await store.bundles.prune_x509(clock() + timedelta(days=30)) is None
    assert await held(store) == [long]


async def test_a_journal_is_written_by_whoever_read_it_last(store: SQLStore) -> None:
    made = await store.journals.create(b"1")
    second = await store.journals.replace(made, b"2")
    with pytest.raises(JournalConflictError):
        await store.journals.replace(made, b"3")
    await store.journals.delete(made)  # of another revision: stays
    assert await store.journals.all() == (second,)
    other = await store.journals.create(b"x")
    assert await store.journals.all() == (other, second)
    await store.journals.delete(second)
    with pytest.raises(JournalConflictError):
        await store.journals.replace(second, b"3")
    assert await store.journals.all() == (other,)


async def test_of_many_writers_of_a_journal_one_wins(store: SQLStore) -> None:
    made = await store.journals.create(b"0")
    outcomes = await asyncio.gather(
        *(store.journals.replace(made, str(n).encode()) for n in range(10)), return_exceptions=True
    )
    winners = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(winners) == 1
    assert await store.journals.all() == tuple(winners)


async def test_privileged_certificates_are_known_by_serial_and_id(store: SQLStore, clock: Any) -> None:
    boss = SpiffeID.parse("spiffe://example.org/boss")
    expires_at = int(clock().timestamp()) + 60
    await store.issuance.record([IssuedSVID(boss, (b"leaf", b"CA"), expires_at, "1")])
    await store.issuance.record([])
    assert await store.issuance.known(boss, fingerprint(b"leaf"))
    assert not await store.issuance.known(boss, "1")
    assert not await store.issuance.known(SpiffeID.parse("spiffe://example.org/other"), fingerprint(b"leaf"))
    assert await store.issuance.prune(clock()) == 0
    clock.forward(seconds=60)
    assert await store.issuance.prune(clock()) == 1
    assert not await store.issuance.known(boss, fingerprint(b"leaf"))
