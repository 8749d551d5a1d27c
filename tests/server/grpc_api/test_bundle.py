"""The Bundle service about other trust domains' bundles: kept, replaced, deleted with or without what uses them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.testing import TestCA

pytestmark = pytest.mark.anyio

FED = "fed.example"
MODE = bundle_pb2.BatchDeleteFederatedBundleRequest
Set = bundle_pb2.BatchSetFederatedBundleRequest
Create = bundle_pb2.BatchCreateFederatedBundleRequest
Update = bundle_pb2.BatchUpdateFederatedBundleRequest


def authority(name: str = FED) -> types_pb2.X509Certificate:
    (root,) = TestCA(name).bundle().authorities
    return types_pb2.X509Certificate(asn1=root.public_bytes(Encoding.DER))


def key(key_id: str = "k1", expires_at: int = 2_000_000_000) -> types_pb2.JWTKey:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return types_pb2.JWTKey(public_key=spki, key_id=key_id, expires_at=expires_at)


def bundle(name: str = FED, **fields: Any) -> types_pb2.Bundle:
    given = {"x509_authorities": [authority(name)], "jwt_authorities": [key()], "sequence_number": 7} | fields
    return types_pb2.Bundle(trust_domain=name, **given)


@pytest.fixture
def api(live: Any) -> bundle_grpc.BundleStub:
    return bundle_grpc.BundleStub(live.admin)


async def federated(api: bundle_grpc.BundleStub, name: str = FED) -> types_pb2.Bundle:
    return await api.GetFederatedBundle(bundle_pb2.GetFederatedBundleRequest(trust_domain=name))


async def entry_that_federates(live: Any, *domains: str) -> types_pb2.Entry:
    entry = types_pb2.Entry(
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/w"),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        selectors=[types_pb2.Selector(type="unix", value="uid:0")],
        federates_with=domains,
    )
    answer = await entry_grpc.EntryStub(live.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[entry]))
    (result,) = answer.results
    assert result.status.code == 0, result.status.message
    return result.entry


async def test_a_bundle_is_kept_as_it_was_given(api: bundle_grpc.BundleStub) -> None:
    given = bundle(refresh_hint=60, sequence_number=2**64 - 1, jwt_authorities=[key("a", 0), key("b")])
    given.x509_authorities[0].tainted = True  # of their server's concern, not of ours
    (result,) = (await api.BatchCreateFederatedBundle(Create(bundle=[given]))).results
    given.x509_authorities[0].tainted = False
    assert (result.status.code, result.status.message) == (0, "OK")
    assert result.bundle == given
    assert await federated(api) == given
    assert (await api.CountBundles(bundle_pb2.CountBundlesRequest())).count == 2
    (again,) = (await api.BatchCreateFederatedBundle(Create(bundle=[given]))).results
    assert (again.status.code, again.status.message) == (6, "bundle already exists")
    assert not again.HasField("bundle")


async def test_masks_say_what_is_shown_and_what_is_replaced(api: bundle_grpc.BundleStub) -> None:
    given = bundle(refresh_hint=60)
    await api.BatchSetFederatedBundle(Set(bundle=[given]))
    nothing = await api.GetFederatedBundle(
        bundle_pb2.GetFederatedBundleRequest(trust_domain=FED, output_mask=types_pb2.BundleMask())
    )
    assert nothing == types_pb2.Bundle(trust_domain=FED)
    new = bundle(sequence_number=9)
    mask = types_pb2.BundleMask(jwt_authorities=True, sequence_number=True)
    request = Update(bundle=[new], input_mask=mask, output_mask=types_pb2.BundleMask(refresh_hint=True))
    (result,) = (await api.BatchUpdateFederatedBundle(request)).results
    assert result.bundle == types_pb2.Bundle(trust_domain=FED, refresh_hint=60)
    now = await federated(api)
    assert now.x509_authorities == given.x509_authorities
    assert now.jwt_authorities == new.jwt_authorities
    assert (now.sequence_number, now.refresh_hint) == (9, 60)
    (whole,) = (await api.BatchUpdateFederatedBundle(Update(bundle=[new]))).results
    assert whole.bundle == new


async def test_setting_a_bundle_resets_what_it_does_not_say(api: bundle_grpc.BundleStub) -> None:
    await api.BatchSetFederatedBundle(Set(bundle=[bundle(refresh_hint=60)]))
    bare = types_pb2.Bundle(trust_domain=f"spiffe://{FED}/with/a/path", x509_authorities=[authority()])
    (result,) = (await api.BatchSetFederatedBundle(Set(bundle=[bare]))).results
    assert result.bundle == types_pb2.Bundle(trust_domain=FED, x509_authorities=bare.x509_authorities)


async def test_bundles_are_listed_in_pages_without_our_own(api: bundle_grpc.BundleStub) -> None:
    names = [f"fed{number}.example" for number in range(4)]
    await api.BatchSetFederatedBundle(Set(bundle=[bundle(name) for name in names]))
    everything = await api.ListFederatedBundles(bundle_pb2.ListFederatedBundlesRequest())
    assert [each.trust_domain for each in everything.bundles] == names
    assert not everything.next_page_token
    seen: list[str] = []
    token = ""
    while True:
        request = bundle_pb2.ListFederatedBundlesRequest(page_size=2, page_token=token)
        page = await api.ListFederatedBundles(request)
        seen += [each.trust_domain for each in page.bundles]
        token = page.next_page_token
        if not token:
            break
    assert seen == names
    with pytest.raises(GRPCError) as caught:
        await api.ListFederatedBundles(bundle_pb2.ListFederatedBundlesRequest(page_size=1, page_token="x' OR 1"))
    assert caught.value.status is Status.INTERNAL


@pytest.mark.parametrize("method", ["Create", "Update", "Set"])
@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        (types_pb2.Bundle(), 3, "trust domain argument is not valid"),
        (types_pb2.Bundle(trust_domain="No Domain"), 3, "trust domain argument is not valid"),
        (types_pb2.Bundle(trust_domain="a" * 300), 3, "trust domain argument is not valid"),
        (types_pb2.Bundle(trust_domain="example.org"), 3, "for the server's own trust domain is not allowed"),
        (bundle(x509_authorities=[types_pb2.X509Certificate(asn1=b"junk")]), 3, "failed to convert bundle"),
        (bundle(x509_authorities=[types_pb2.X509Certificate()]), 3, "failed to convert bundle"),
        (bundle(jwt_authorities=[types_pb2.JWTKey(key_id="k", public_key=b"junk")]), 3, "failed to convert bundle"),
        (bundle(jwt_authorities=[key("")]), 3, "failed to convert bundle"),
        (bundle(jwt_authorities=[key("same"), key("same")]), 3, "failed to convert bundle"),
        (bundle(refresh_hint=-1), 3, "failed to convert bundle"),
    ],
)
async def test_what_is_wrong_is_refused_and_what_stands_beside_it_is_kept(
    api: bundle_grpc.BundleStub, method: str, given: types_pb2.Bundle, code: int, text: str
) -> None:
    await api.BatchSetFederatedBundle(Set(bundle=[bundle("good.example")]))
    fine = bundle("new.example" if method == "Create" else "good.example")
    call = getattr(api, f"Batch{method}FederatedBundle")
    wrong, right = (await call(call.request_type(bundle=[given, fine]))).results
    assert (wrong.status.code, right.status.code) == (code, 0)
    assert text in wrong.status.message
    listed = await api.ListFederatedBundles(bundle_pb2.ListFederatedBundlesRequest())
    assert {each.trust_domain for each in listed.bundles} == {"good.example", fine.trust_domain}


async def test_one_key_under_two_ids_is_refused(api: bundle_grpc.BundleStub) -> None:
    one = key("one")
    two = types_pb2.JWTKey(public_key=one.public_key, key_id="two")
    (result,) = (await api.BatchSetFederatedBundle(Set(bundle=[bundle(jwt_authorities=[one, two])]))).results
    assert (result.status.code, result.status.message) == (3, "a key is in the bundle under two key IDs")
    with pytest.raises(GRPCError) as caught:
        await federated(api)
    assert (caught.value.status, caught.value.message) == (Status.NOT_FOUND, "bundle not found")


async def test_an_unknown_bundle_is_not_updated(api: bundle_grpc.BundleStub) -> None:
    (result,) = (await api.BatchUpdateFederatedBundle(Update(bundle=[bundle()]))).results
    assert (result.status.code, result.status.message) == (5, "bundle not found")


@pytest.mark.parametrize(
    ("name", "status"),
    [("", Status.INVALID_ARGUMENT), ("example.org", Status.INVALID_ARGUMENT), ("nobody.example", Status.NOT_FOUND)],
)
async def test_a_bundle_that_cannot_be_had(api: bundle_grpc.BundleStub, name: str, status: Status) -> None:
    with pytest.raises(GRPCError) as caught:
        await federated(api, name)
    assert caught.value.status is status


async def test_of_many_who_create_the_same_bundle_one_succeeds(api: bundle_grpc.BundleStub) -> None:
    answers = await asyncio.gather(*(api.BatchCreateFederatedBundle(Create(bundle=[bundle()])) for _ in range(10)))
    assert sorted(answer.results[0].status.code for answer in answers) == [0] + [6] * 9


async def test_an_entry_federates_with_bundles_that_are_there(live: Any, api: bundle_grpc.BundleStub) -> None:
    await api.BatchSetFederatedBundle(Set(bundle=[bundle()]))
    entry = await entry_that_federates(live, FED)
    assert list(entry.federates_with) == [FED]
    entry.federates_with.append("nobody.example")
    update = entry_pb2.BatchUpdateEntryRequest(entries=[entry])
    (result,) = (await entry_grpc.EntryStub(live.admin).BatchUpdateEntry(update)).results
    assert result.status.code == 13
    assert "unable to find federated bundle" in result.status.message


@pytest.mark.parametrize("mode", [MODE.RESTRICT, MODE.DELETE, MODE.DISSOCIATE])
async def test_deleting_a_bundle_that_entries_use(live: Any, api: bundle_grpc.BundleStub, mode: int) -> None:
    await api.BatchSetFederatedBundle(Set(bundle=[bundle(), bundle("stays.example")]))
    entry = await entry_that_federates(live, FED, "stays.example")
    request = MODE(trust_domains=[FED], mode=mode)  # type: ignore[arg-type]
    (result,) = (await api.BatchDeleteFederatedBundle(request)).results
    entries = (await entry_grpc.EntryStub(live.admin).ListEntries(entry_pb2.ListEntriesRequest())).entries
    count = (await api.CountBundles(bundle_pb2.CountBundlesRequest())).count
    if mode == MODE.RESTRICT:
        assert result.status.code == 9
        assert result.status.message.endswith("cannot delete bundle; federated with 1 registration entries")
        assert list(entries) == [entry]
        assert count == 3
        return
    assert (result.status.code, result.trust_domain) == (0, FED)
    assert count == 2
    if mode == MODE.DELETE:
        assert not entries
    else:
        (left,) = entries
        assert list(left.federates_with) == ["stays.example"]
        assert left.revision_number == entry.revision_number + 1  # so that agents read it anew


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("", 3, "trust domain argument is not valid"),
        ("example.org", 3, "removing the bundle for the server trust domain is not allowed"),
        ("nobody.example", 5, "bundle not found"),
    ],
)
async def test_deletions_that_are_refused(api: bundle_grpc.BundleStub, name: str, code: int, text: str) -> None:
    (result,) = (await api.BatchDeleteFederatedBundle(MODE(trust_domains=[name]))).results
    assert (result.status.code, result.trust_domain) == (code, name)
    assert result.status.message.startswith(text)


async def test_an_unknown_mode_deletes_nothing(api: bundle_grpc.BundleStub) -> None:
    await api.BatchSetFederatedBundle(Set(bundle=[bundle()]))
    with pytest.raises(GRPCError) as caught:
        await api.BatchDeleteFederatedBundle(MODE(trust_domains=[FED], mode=9))  # type: ignore[arg-type]
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert await federated(api)


async def test_authorities_are_appended_once(live: Any, api: bundle_grpc.BundleStub) -> None:
    before = await api.GetBundle(bundle_pb2.GetBundleRequest())
    request = bundle_pb2.AppendBundleRequest(x509_authorities=[authority("example.org")], jwt_authorities=[key("mine")])
    after = await api.AppendBundle(request)
    assert after.sequence_number == before.sequence_number + 1
    assert list(after.x509_authorities) == [*before.x509_authorities, *request.x509_authorities]
    assert list(after.jwt_authorities) == [*before.jwt_authorities, *request.jwt_authorities]
    again = await api.AppendBundle(request)
    assert again == after
    request.output_mask.SetInParent()
    assert await api.AppendBundle(request) == types_pb2.Bundle(trust_domain="example.org")


async def test_an_appended_authority_is_trusted_at_once(live: Any, api: bundle_grpc.BundleStub) -> None:
    foreign = TestCA("example.org")
    (root,) = foreign.bundle().authorities
    added = types_pb2.X509Certificate(asn1=root.public_bytes(Encoding.DER))
    await api.AppendBundle(bundle_pb2.AppendBundleRequest(x509_authorities=[added]))
    caller = bundle_grpc.BundleStub(await live.caller(foreign.svid("/workload")))
    assert added in (await caller.GetBundle(bundle_pb2.GetBundleRequest())).x509_authorities


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (bundle_pb2.AppendBundleRequest(), "no authorities to append"),
        (
            bundle_pb2.AppendBundleRequest(x509_authorities=[types_pb2.X509Certificate(asn1=b"junk")]),
            "failed to convert X.509 authority",
        ),
        (bundle_pb2.AppendBundleRequest(jwt_authorities=[key("")]), "failed to convert JWT authority"),
    ],
)
async def test_what_is_no_authority_is_not_appended(
    api: bundle_grpc.BundleStub, request_: bundle_pb2.AppendBundleRequest, text: str
) -> None:
    before = await api.GetBundle(bundle_pb2.GetBundleRequest())
    with pytest.raises(GRPCError, match=text) as caught:
        await api.AppendBundle(request_)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert await api.GetBundle(bundle_pb2.GetBundleRequest()) == before


async def test_an_agent_gets_a_federated_bundle(live: Any, api: bundle_grpc.BundleStub) -> None:
    await api.BatchSetFederatedBundle(Set(bundle=[bundle()]))
    agent = bundle_grpc.BundleStub(await live.caller(await live.attest()))
    assert await federated(agent) == await federated(api)


async def test_the_audit_names_what_came_in(start_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    live = await start_server(audit_log_enabled=True)
    api = bundle_grpc.BundleStub(live.admin)
    with caplog.at_level(logging.INFO, logger="icp_server.audit"):
        await api.BatchSetFederatedBundle(Set(bundle=[bundle(), types_pb2.Bundle()]))
        await api.BatchDeleteFederatedBundle(MODE(trust_domains=[FED]))
    kept, wrong, gone = [record.getMessage() for record in caplog.records if "API accessed" in record.getMessage()]
    assert "trust_domain_id=fed.example" in kept
    assert "x509_authorities_asn1_sha256.0=" in kept
    assert "jwt_authority_key_id.0=k1" in kept
    assert "status=success" in kept
    assert "status_code=InvalidArgument" in wrong
    assert "mode=restrict" in gone
