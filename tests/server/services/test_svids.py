"""X509-SVIDs: for entries the agent has, and for no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.spiffe import X509SVID, SpiffeID
from authsec_sdk.spire.entries import RegistrationEntry
from icp_server.domain.agent import Agent
from icp_server.domain.errors import InvalidArgument, NotFound, ResourceExhausted
from icp_server.domain.issued import NewX509SVID
from icp_server.services.entries import Rights

pytestmark = pytest.mark.anyio
NewEntry = Callable[..., RegistrationEntry]
AGENT = Agent(SpiffeID.parse("spiffe://example.org/agent"), "join_token", "1", 2**40)


async def test_each_item_is_signed_for_its_entry_or_refused(server: Any, new_entry: NewEntry, requester: Any) -> None:
    await server.entries.create(
        [
            new_entry("web", id="web", dns_names=("web.test",), x509_svid_ttl=120, hint="front"),
            new_entry("db", id="db"),
            new_entry("secret", id="secret", parent="other-agent"),
        ]
    )
    csr = requester.csr(uris=("spiffe://example.org/secret",))
    asked = [("web", csr), ("secret", csr), ("none", csr), ("", csr), ("db", b""), ("db", b"junk"), ("db", csr)]
    results = await server.svids.batch_new_x509(AGENT, [NewX509SVID(*each) for each in asked])
    errors = [None if result.error is None else (type(result.error), result.error.message) for result in results]
    assert errors[0] is None
    assert errors[1] == errors[2] == (NotFound, "entry not found or not authorized")
    assert errors[3] == (InvalidArgument, "missing entry ID")
    assert errors[4] == (InvalidArgument, "missing CSR")
    assert errors[5] is not None
    assert errors[5][0] is InvalidArgument
    assert errors[6] is None
    web = results[0].value
    assert (web.hint, str(web.spiffe_id)) == ("front", "spiffe://example.org/web")
    leaf = x509.load_der_x509_certificate(web.chain[0])
    assert X509SVID((leaf,), requester.key).id == web.spiffe_id
    assert leaf.subject.rfc4514_string() == "CN=web.test,O=SPIRE,C=US"
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 130
    assert str(results[6].value.spiffe_id) == "spiffe://example.org/db"


async def test_batches_are_bounded(server: Any, requester: Any) -> None:
    with pytest.raises(InvalidArgument, match="missing parameters"):
        await server.svids.batch_new_x509(AGENT, [])
    with pytest.raises(ResourceExhausted, match=r"rate \(501\) exceeds burst size \(500\)"):
        await server.svids.batch_new_x509(AGENT, [NewX509SVID("a", requester.csr())] * 501)


async def test_a_whole_batch(server: Any, new_entry: NewEntry, requester: Any) -> None:
    await server.entries.create([new_entry(f"w{n}", id=f"{n}") for n in range(500)])
    items = [NewX509SVID(f"{n}", requester.csr()) for n in range(500)]
    results = await server.svids.batch_new_x509(AGENT, items)
    assert [str(result.value.spiffe_id) for result in results] == [f"spiffe://example.org/w{n}" for n in range(500)]
    assert len({result.value.serial_number for result in results}) == 500


async def test_an_entry_deleted_is_an_entry_not_signed(server: Any, new_entry: NewEntry, requester: Any) -> None:
    await server.entries.create([new_entry(id="a")])
    item = NewX509SVID("a", requester.csr())
    assert (await server.svids.batch_new_x509(AGENT, [item]))[0].ok
    await server.entries.delete(["a"])
    assert isinstance((await server.svids.batch_new_x509(AGENT, [item]))[0].error, NotFound)


async def test_privileged_certificates_are_on_record_before_they_leave(
    server: Any, new_entry: NewEntry, requester: Any
) -> None:
    await server.entries.create([new_entry("boss", id="a", admin=True), new_entry("web", id="b")])
    items = [NewX509SVID("a", requester.csr()), NewX509SVID("b", requester.csr())]
    boss, web = [result.value for result in await server.svids.batch_new_x509(AGENT, items)]
    assert await server.entries.rights(boss.spiffe_id, boss.fingerprint) == Rights(admin=True)
    assert not await server.store.issuance.known(web.spiffe_id, web.fingerprint)


async def test_minting(server: Any, requester: Any) -> None:
    with pytest.raises(InvalidArgument, match="missing CSR"):
        await server.svids.mint_x509(b"", 0)
    issued = await server.svids.mint_x509(requester.csr(uris=("spiffe://example.org/a",)), 0)
    assert str(issued.spiffe_id) == "spiffe://example.org/a"
    for wrong in ("spiffe://other.org/a", "spiffe://example.org", "spiffe://example.org/spire/server"):
        with pytest.raises(InvalidArgument):
            await server.svids.mint_x509(requester.csr(uris=(wrong,)), 0)


async def test_the_bundle_is_the_published_one(server: Any) -> None:
    bundle = await server.bundles.get()
    assert bundle.x509_bundle().contains_der(server.signer.authority.record.data)


async def test_no_bundle_yet(store: Any) -> None:
    from icp_server.services.bundles import BundleService

    with pytest.raises(NotFound, match="bundle not found"):
        await BundleService(store).get()
