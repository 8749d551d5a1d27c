"""The SVID service over real sockets: batches item by item, minting, the burst."""

from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.proto.spire import entry_grpc, entry_pb2, svid_grpc, svid_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status
from icp_server.config.model import RateLimitSwitches

pytestmark = pytest.mark.anyio


async def _entry(live: Any, entry_id: str, path: str, **fields: Any) -> None:
    entry = types_pb2.Entry(
        id=entry_id,
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=path),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path=fields.pop("parent", "/node")),
        selectors=[types_pb2.Selector(type="unix", value="uid:1")],
        **fields,
    )
    answer = await entry_grpc.EntryStub(live.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[entry]))
    assert answer.results[0].status.code == 0


async def _agent(live: Any) -> svid_grpc.SVIDStub:
    return svid_grpc.SVIDStub(await live.caller(await live.attest()))


async def test_each_item_has_an_outcome_of_its_own(live: Any) -> None:
    stub = await _agent(live)
    await _entry(live, "mine", "/web", dns_names=["web.example.org"], x509_svid_ttl=120, hint="h")
    await _entry(live, "foreign", "/other", parent="/elsewhere")
    csr = live.csr(uri="spiffe://example.org/somebody-else")  # what the CSR names does not count
    params = [
        svid_pb2.NewX509SVIDParams(entry_id="mine", csr=csr),
        svid_pb2.NewX509SVIDParams(entry_id="foreign", csr=csr),
        svid_pb2.NewX509SVIDParams(csr=csr),
        svid_pb2.NewX509SVIDParams(entry_id="mine"),
        svid_pb2.NewX509SVIDParams(entry_id="mine", csr=b"junk"),
        svid_pb2.NewX509SVIDParams(entry_id="mine", csr=csr),
    ]
    answer = await stub.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest(params=params))
    assert [result.status.code for result in answer.results] == [0, 5, 3, 3, 3, 0]
    assert [result.status.message for result in answer.results[:4]] == [
        "OK",
        "entry not found or not authorized",
        "missing entry ID",
        "missing CSR",
    ]
    assert "malformed CSR" in answer.results[4].status.message
    assert not answer.results[1].HasField("svid")
    svid = live.svid(answer.results[0].svid)
    assert str(svid.id) == "spiffe://example.org/web"
    assert svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == ["web.example.org"]
    assert answer.results[0].svid.expires_at == int(svid.not_after.timestamp())


async def test_an_empty_batch_is_refused(live: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        await (await _agent(live)).BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest())
    assert (caught.value.status, caught.value.message) == (Status.INVALID_ARGUMENT, "missing parameters")


@pytest.mark.parametrize("limited", [True, False])
async def test_more_than_the_burst_is_refused_whole(start_server: Any, limited: bool) -> None:
    live = await start_server(rate_limits=RateLimitSwitches(attestation=False, signing=limited))
    stub = await _agent(live)
    request = svid_pb2.BatchNewX509SVIDRequest(params=[svid_pb2.NewX509SVIDParams()] * 501)
    with pytest.raises(GRPCError) as caught:
        await stub.BatchNewX509SVID(request)
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert (caught.value.message or "").endswith("rate (501) exceeds burst size (500)")
    answer = await stub.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest(params=request.params[:500]))
    assert len(answer.results) == 500


async def test_the_limiters_refusal_has_upstreams_words(start_server: Any) -> None:
    live = await start_server(rate_limits=RateLimitSwitches(attestation=False, signing=True))
    with pytest.raises(GRPCError) as caught:
        await (await _agent(live)).BatchNewX509SVID(
            svid_pb2.BatchNewX509SVIDRequest(params=[svid_pb2.NewX509SVIDParams()] * 501)
        )
    assert caught.value.message == (
        "rejecting request due to certificate signing rate limiting: rate (501) exceeds burst size (500)"
    )


async def test_an_operator_mints_what_a_csr_names(live: Any) -> None:
    svid = await live.mint("/minted", ttl=300)
    assert str(svid.id) == "spiffe://example.org/minted"
    assert (svid.not_after - svid.not_before).total_seconds() == 310


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "CSR URI SAN is required"),
        ("spiffe://other.org/x", "CSR URI SAN is invalid"),
        ("spiffe://example.org/spire/agent/x", "CSR URI SAN is invalid"),
        ("spiffe://example.org", "CSR URI SAN is invalid"),
        ("https://example.org/x", "CSR URI SAN is invalid"),
    ],
)
async def test_a_bad_csr_is_not_minted(live: Any, uri: str, words: str) -> None:
    request = svid_pb2.MintX509SVIDRequest(csr=live.csr(uri=uri))
    with pytest.raises(GRPCError) as caught:
        await svid_grpc.SVIDStub(live.admin).MintX509SVID(request)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert words in (caught.value.message or "")


@pytest.mark.parametrize("csr", [b"", b"\x30\x03\x02\x01\x00", b"\xff" * 4096])
async def test_what_is_no_csr_is_not_minted(live: Any, csr: bytes) -> None:
    with pytest.raises(GRPCError) as caught:
        await svid_grpc.SVIDStub(live.admin).MintX509SVID(svid_pb2.MintX509SVIDRequest(csr=csr))
    assert caught.value.status is Status.INVALID_ARGUMENT
