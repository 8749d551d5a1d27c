"""The own bundle's authorities one by one: token keys beside certificates, their marks, and what may follow what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import Internal, InvalidArgument
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
JWT, WIT, X509 = AuthorityKind.JWT, AuthorityKind.WIT, AuthorityKind.X509


def public_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def published(store: SQLStore) -> PublishedBundle:
    found = await store.bundles.published(store.trust_domain)
    assert found is not None
    return found


async def test_keys_stand_in_the_bundle_with_their_ends(store: SQLStore) -> None:
    key = public_key()
    await store.authorities.append_key(JWT, "a", key, 100)
    await store.authorities.append_key(WIT, "b", public_key(), 200)
    before = await published(store)
    await store.authorities.append_key(JWT, "a", key, 100)
    found = await published(store)
    assert found == before
    assert (list(found.bundle.jwt_authorities), list(found.bundle.wit_authorities)) == (["a"], ["b"])
    assert found.key_expiry == {"a": 100, "b": 200}
    assert found.bundle.sequence_number == 1  # the first made the bundle, the known one changed nothing
    assert not found.tainted


async def test_a_key_id_stands_for_one_authority(store: SQLStore) -> None:
    key = public_key()
    await store.authorities.append_key(JWT, "a", key, 100)
    for kind, other in ((JWT, public_key()), (WIT, key)):
        with pytest.raises(InvalidArgument, match="stands for another authority"):
            await store.authorities.append_key(kind, "a", other, 100)
    with pytest.raises(InvalidArgument, match="under another key ID"):
        await store.authorities.append_key(JWT, "b", key, 100)
    assert len((await published(store)).bundle.jwt_authorities) == 1


async def test_ended_keys_are_pruned_and_endless_ones_stay(store: SQLStore, clock: Any) -> None:
    assert not await store.authorities.prune_keys(clock())
    now = int(clock().timestamp())
    for key_id, end in (("ended", now - 1), ("ends now", now), ("endless", 0)):
        await store.authorities.append_key(JWT, key_id, public_key(), end)
    assert await store.authorities.prune_keys(clock())
    assert set((await published(store)).bundle.jwt_authorities) == {"ends now", "endless"}
    assert not await store.authorities.prune_keys(clock())
    assert await store.authorities.prune_keys(clock() + timedelta(seconds=1))
    assert (await published(store)).bundle.sequence_number == 4


@pytest.mark.parametrize("kind", list(AuthorityKind))
async def test_taint_comes_before_revocation(server: Any, kind: AuthorityKind) -> None:
    store: SQLStore = server.store
    authority_id = server.rotator.local_authorities(kind).active.authority_id
    words = {X509: "root CA", JWT: "key", WIT: "key"}[kind]
    with pytest.raises(Internal, match=f"not possible to revoke an untainted {words}"):
        await store.authorities.revoke(kind, authority_id)
    before = await published(store)
    await store.authorities.taint(kind, authority_id)
    after = await published(store)
    assert after.bundle.sequence_number == (before.bundle.sequence_number or 0) + 1
    assert after.tainted
    with pytest.raises(Internal, match=f"{words} is already tainted"):
        await store.authorities.taint(kind, authority_id)
    await store.authorities.revoke(kind, authority_id)
    gone = await published(store)
    assert not gone.tainted
    assert authority_id not in {*gone.bundle.jwt_authorities, *gone.bundle.wit_authorities}
    assert len(gone.bundle.x509_authorities) == (0 if kind is X509 else 1)
    for act in (store.authorities.taint, store.authorities.revoke):
        with pytest.raises(Internal, match=r"no .* found with provided"):
            await act(kind, authority_id)
