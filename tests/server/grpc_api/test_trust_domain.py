"""The TrustDomain service: relationships made, changed, listed and removed, and a bundle fetched on demand."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.proto.spire import bundle_grpc, bundle_pb2, trustdomain_grpc, trustdomain_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.testing import TestCA
from icp_server.config.federation import Federation, ServedBundle

pytestmark = pytest.mark.anyio

FED = "fed.example"
Relationship = types_pb2.FederationRelationship
Create = trustdomain_pb2.BatchCreateFederationRelationshipRequest
Update = trustdomain_pb2.BatchUpdateFederationRelationshipRequest
Delete = trustdomain_pb2.BatchDeleteFederationRelationshipRequest
Refresh = trustdomain_pb2.RefreshBundleRequest


def bundle(name: str = FED) -> types_pb2.Bundle:
    (root,) = TestCA(name).bundle().authorities
    return types_pb2.Bundle(
        trust_domain=name, x509_authorities=[types_pb2.X509Certificate(asn1=root.public_bytes(Encoding.DER))]
    )


def web(name: str = FED, url: str = "https://fed.example/bundle", **fields: Any) -> Relationship:
    return Relationship(trust_domain=name, bundle_endpoint_url=url, https_web=types_pb2.HTTPSWebProfile(), **fields)


def spiffe(name: str = FED, server: str = "spiffe://fed.example/spire/server", **fields: Any) -> Relationship:
    profile = types_pb2.HTTPSSPIFFEProfile(endpoint_spiffe_id=server)
    fields = {"bundle_endpoint_url": "https://fed.example:8443"} | fields
    return Relationship(trust_domain=name, https_spiffe=profile, **fields)


@pytest.fixture
def api(live: Any) -> trustdomain_grpc.TrustDomainStub:
    return trustdomain_grpc.TrustDomainStub(live.admin)


async def create(api: trustdomain_grpc.TrustDomainStub, *items: Relationship) -> list[Any]:
    return list((await api.BatchCreateFederationRelationship(Create(federation_relationships=items))).results)


async def get(api: trustdomain_grpc.TrustDomainStub, name: str = FED, **fields: Any) -> Relationship:
    request = trustdomain_pb2.GetFederationRelationshipRequest(trust_domain=name, **fields)
    return await api.GetFederationRelationship(request)


async def test_a_relationship_is_kept_as_it_was_given(live: Any, api: trustdomain_grpc.TrustDomainStub) -> None:
    given = spiffe(trust_domain_bundle=bundle())
    (result,) = await create(api, given)
    assert (result.status.code, result.status.message) == (0, "OK")
    assert result.federation_relationship == given
    assert await get(api) == given
    kept = bundle_pb2.GetFederatedBundleRequest(trust_domain=FED)
    assert await bundle_grpc.BundleStub(live.admin).GetFederatedBundle(kept) == given.trust_domain_bundle
    plain = web("web.example")
    await create(api, plain)
    assert await get(api, "web.example") == plain
    assert (await get(api, "web.example")).WhichOneof("bundle_endpoint_profile") == "https_web"


async def test_a_second_one_with_the_same_trust_domain_is_refused(api: trustdomain_grpc.TrustDomainStub) -> None:
    await create(api, web())
    new = bundle()
    (again,) = await create(api, spiffe(trust_domain_bundle=new))
    assert again.status.code == 13  # upstream's
    assert again.status.message.startswith("failed to create federation relationship: ")
    assert not again.HasField("federation_relationship")
    assert await get(api) == web()  # the bundle that came with it is not kept either


async def test_of_many_who_create_it_at_once_one_succeeds(api: trustdomain_grpc.TrustDomainStub) -> None:
    answers = await asyncio.gather(*(create(api, web(url=f"https://h{number}/")) for number in range(10)))
    assert sorted(answer[0].status.code for answer in answers) == [0] + [13] * 9


async def test_masks(api: trustdomain_grpc.TrustDomainStub) -> None:
    given = spiffe(trust_domain_bundle=bundle())
    await create(api, given)
    assert await get(api, output_mask=types_pb2.FederationRelationshipMask()) == Relationship(trust_domain=FED)
    only = types_pb2.FederationRelationshipMask(bundle_endpoint_url=True)
    changed = web(url="https://new.example/")
    request = Update(federation_relationships=[changed], input_mask=only, output_mask=only)
    (result,) = (await api.BatchUpdateFederationRelationship(request)).results
    assert result.federation_relationship == Relationship(trust_domain=FED, bundle_endpoint_url="https://new.example/")
    now = await get(api)
    assert now.https_spiffe == given.https_spiffe
    assert now.trust_domain_bundle == given.trust_domain_bundle
    (whole,) = (await api.BatchUpdateFederationRelationship(Update(federation_relationships=[changed]))).results
    changed.trust_domain_bundle.CopyFrom(given.trust_domain_bundle)  # an update without one leaves what is known
    assert whole.federation_relationship == changed
    nothing = types_pb2.FederationRelationshipMask()
    await api.BatchUpdateFederationRelationship(Update(federation_relationships=[spiffe()], input_mask=nothing))
    assert await get(api) == changed


async def test_an_unknown_one_is_not_updated(api: trustdomain_grpc.TrustDomainStub) -> None:
    (result,) = (await api.BatchUpdateFederationRelationship(Update(federation_relationships=[web()]))).results
    assert result.status.code == 13  # upstream's
    assert result.status.message.startswith("failed to update federation relationship: ")


async def test_relationships_are_listed_in_pages(api: trustdomain_grpc.TrustDomainStub) -> None:
    given = [web(f"fed{number}.example") for number in range(3)]
    await create(api, *given)
    List = trustdomain_pb2.ListFederationRelationshipsRequest
    assert list((await api.ListFederationRelationships(List())).federation_relationships) == given
    first = await api.ListFederationRelationships(List(page_size=2))
    second = await api.ListFederationRelationships(List(page_size=2, page_token=first.next_page_token))
    assert [*first.federation_relationships, *second.federation_relationships] == given
    with pytest.raises(GRPCError, match="failed to list federation relationships") as caught:
        await api.ListFederationRelationships(List(page_size=2, page_token="'; DROP TABLE bundles"))
    assert caught.value.status is Status.INTERNAL


async def test_deletion_leaves_the_bundle(live: Any, api: trustdomain_grpc.TrustDomainStub) -> None:
    await create(api, spiffe(trust_domain_bundle=bundle()))
    names = [f"spiffe://{FED}", FED, "", "No Domain"]
    gone, again, missing, wrong = (await api.BatchDeleteFederationRelationship(Delete(trust_domains=names))).results
    assert (gone.status.code, gone.trust_domain) == (0, FED)
    assert (again.status.code, again.status.message) == (5, "federation relationship not found")
    assert (missing.status.code, missing.trust_domain) == (3, "")
    assert missing.status.message.startswith("missing trust domain")
    assert (wrong.status.code, wrong.trust_domain) == (3, "No Domain")
    request = bundle_pb2.GetFederatedBundleRequest(trust_domain=FED)
    assert await bundle_grpc.BundleStub(live.admin).GetFederatedBundle(request)
    with pytest.raises(GRPCError) as caught:
        await get(api)
    assert (caught.value.status, caught.value.message) == (
        Status.NOT_FOUND,
        "federation relationship does not exist",
    )


WRONG = [
    (Relationship(), "failed to parse trust domain"),
    (web("No Domain"), "failed to parse trust domain"),
    (web("x" * 300), "failed to parse trust domain"),
    (web(url=""), "bundle endpoint URL must use the https scheme"),
    (web(url="http://fed.example"), "bundle endpoint URL must use the https scheme"),
    (web(url="https:///bundle"), "bundle endpoint URL must specify the host"),
    (web(url="https://me:pw@fed.example"), "bundle endpoint URL must not contain user info"),
    (web(url="https://fed.example:99999"), "failed to parse bundle endpoint URL"),
    (web(url="https://fed.example/\r\nX: y"), "failed to parse bundle endpoint URL"),
    (Relationship(trust_domain=FED, bundle_endpoint_url="https://x"), "unsupported bundle endpoint profile type"),
    (spiffe(server=""), "failed to parse endpoint SPIFFE ID"),
    (spiffe(server="https://x"), "failed to parse endpoint SPIFFE ID"),
    (spiffe(server="spiffe://fed.example"), "failed to parse endpoint SPIFFE ID"),
    (web(trust_domain_bundle=bundle("other.example")), "must match the trust domain of the federation relationship"),
    (web(trust_domain_bundle=types_pb2.Bundle()), "failed to parse bundle: invalid trust domain"),
    (
        web(
            trust_domain_bundle=types_pb2.Bundle(
                trust_domain=FED, x509_authorities=[types_pb2.X509Certificate(asn1=b"junk")]
            )
        ),
        "failed to parse bundle",
    ),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
async def test_what_is_wrong_is_refused_and_what_stands_beside_it_is_kept(
    api: trustdomain_grpc.TrustDomainStub, given: Relationship, text: str
) -> None:
    wrong, right = await create(api, given, web("good.example"))
    assert (wrong.status.code, right.status.code) == (3, 0)
    assert wrong.status.message.startswith("failed to convert federation relationship: ")
    assert text in wrong.status.message
    (update,) = (await api.BatchUpdateFederationRelationship(Update(federation_relationships=[given]))).results
    assert (update.status.code, update.status.message) == (3, wrong.status.message)


async def test_nobody_federates_with_itself(api: trustdomain_grpc.TrustDomainStub) -> None:
    (result,) = await create(api, web("example.org"))
    assert (result.status.code, result.status.message) == (
        3,
        "unable to create federation relationship for server trust domain",
    )


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("", Status.INVALID_ARGUMENT, "failed to parse trust domain"),
        ("No Domain", Status.INVALID_ARGUMENT, "failed to parse trust domain"),
        (FED, Status.NOT_FOUND, 'no relationship with trust domain "fed.example"'),
    ],
)
async def test_a_refresh_that_cannot_be(
    api: trustdomain_grpc.TrustDomainStub, name: str, status: Status, text: str
) -> None:
    with pytest.raises(GRPCError, match=text) as caught:
        await api.RefreshBundle(Refresh(trust_domain=name))
    assert caught.value.status is status


async def test_a_refresh_fetches_now(start_server: Any) -> None:
    here = await start_server()
    served = Federation(ServedBundle("127.0.0.1", 0))
    there = await start_server(trust_domain=TrustDomain(FED), federation=served)
    api = trustdomain_grpc.TrustDomainStub(here.admin)
    url = f"https://127.0.0.1:{there.app.bundle_address[1]}"
    published = await bundle_grpc.BundleStub(there.admin).GetBundle(bundle_pb2.GetBundleRequest())
    first = types_pb2.Bundle(trust_domain=FED, x509_authorities=published.x509_authorities)
    await create(api, spiffe(bundle_endpoint_url=url))
    with pytest.raises(GRPCError, match="failed to refresh bundle: no bundle of fed") as caught:
        await api.RefreshBundle(Refresh(trust_domain=FED))
    assert caught.value.status is Status.INTERNAL
    given = Update(federation_relationships=[spiffe(bundle_endpoint_url=url, trust_domain_bundle=first)])
    await api.BatchUpdateFederationRelationship(given)
    await api.RefreshBundle(Refresh(trust_domain=f"spiffe://{FED}"))
    known = (await get(api)).trust_domain_bundle
    assert known.sequence_number == published.sequence_number
    assert [key.key_id for key in known.jwt_authorities] == [key.key_id for key in published.jwt_authorities]


async def test_the_audit_names_what_came_in(start_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    live = await start_server(audit_log_enabled=True)
    api = trustdomain_grpc.TrustDomainStub(live.admin)
    with caplog.at_level(logging.INFO, logger="icp_server.audit"):
        await create(api, spiffe(trust_domain_bundle=bundle()), web("No Domain"))
        await api.BatchDeleteFederationRelationship(Delete(trust_domains=[FED]))
        with pytest.raises(GRPCError):
            await api.RefreshBundle(Refresh(trust_domain=FED))
    lines = [record.getMessage() for record in caplog.records if "API accessed" in record.getMessage()]
    kept, wrong, gone, refreshed = lines
    for field in (
        "trust_domain_id=fed.example",
        "bundle_endpoint_profile=https_spiffe",
        "bundle_x509_authorities_asn1",
    ):
        assert field in kept
    assert "status_code=InvalidArgument" in wrong
    assert "trust_domain_id=fed.example" in gone
    assert "status_code=NotFound" in refreshed
