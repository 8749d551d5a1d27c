"""The LocalAuthority service over real sockets: an authority's whole life, and each refusal in upstream's words."""

from typing import Any

import pytest

from authsec_sdk.proto.spire import (
    bundle_grpc,
    bundle_pb2,
    localauthority_grpc,
    localauthority_pb2,
    svid_grpc,
    svid_pb2,
    types_pb2,
)
from authsec_sdk.rpc import GRPCError, Status
from icp_server.config.model import Tokens

pytestmark = pytest.mark.anyio
KINDS = ("JWT", "X509", "WIT")
WORDS = {"JWT": "JWT", "X509": "X.509", "WIT": "WIT"}
NAMES = {"JWT": "key", "X509": "root CA", "WIT": "key"}


class Authorities:
    """The five calls for one kind."""

    def __init__(self, live: Any, kind: str) -> None:
        self._stub = localauthority_grpc.LocalAuthorityStub(live.admin)
        self._bundle = bundle_grpc.BundleStub(live.admin)
        self.kind = kind

    async def state(self) -> dict[str, str]:
        request = getattr(localauthority_pb2, f"Get{self.kind}AuthorityStateRequest")()
        answer = await getattr(self._stub, f"Get{self.kind}AuthorityState")(request)
        return {field.name: value.authority_id for field, value in answer.ListFields()}

    async def prepare(self) -> str:
        request = getattr(localauthority_pb2, f"Prepare{self.kind}AuthorityRequest")()
        answer = await getattr(self._stub, f"Prepare{self.kind}Authority")(request)
        return str(answer.prepared_authority.authority_id)

    async def do(self, verb: str, authority_id: str) -> Any:
        request = getattr(localauthority_pb2, f"{verb}{self.kind}AuthorityRequest")(authority_id=authority_id)
        answer = await getattr(self._stub, f"{verb}{self.kind}Authority")(request)
        [(_, state)] = answer.ListFields()
        assert state.authority_id == authority_id
        return state

    async def refused(self, verb: str, authority_id: str) -> tuple[Status, str]:
        with pytest.raises(GRPCError) as caught:
            await self.do(verb, authority_id)
        return Status(caught.value.status), caught.value.message or ""

    async def tainted(self) -> list[bool]:
        bundle = await self._bundle.GetBundle(bundle_pb2.GetBundleRequest())
        field = {"JWT": "jwt_authorities", "X509": "x509_authorities", "WIT": "wit_authorities"}[self.kind]
        return [authority.tainted for authority in getattr(bundle, field)]


@pytest.fixture(params=KINDS)
async def authorities(start_server: Any, request: pytest.FixtureRequest) -> Authorities:
    return Authorities(await start_server(tokens=Tokens(wit=True)), request.param)


async def test_an_authoritys_life(authorities: Authorities) -> None:
    first = (await authorities.state())["active"]
    assert await authorities.state() == {"active": first}
    skipped = await authorities.prepare()
    assert await authorities.state() == {"active": first, "prepared": skipped}
    second = await authorities.prepare()
    assert await authorities.state() == {"active": first, "prepared": second}
    assert await authorities.tainted() == [False, False, False]  # what was prepared in vain stays published
    assert (await authorities.do("Activate", second)).expires_at
    assert await authorities.state() == {"active": second, "old": first}
    tainted = await authorities.do("Taint", first)
    assert bool(tainted.expires_at) == (authorities.kind == "X509")
    assert await authorities.tainted() == [True, False, False]
    assert not (await authorities.do("Revoke", first)).expires_at
    assert await authorities.tainted() == [False, False]
    assert await authorities.state() == {"active": second, "old": first}
    third = await authorities.prepare()
    assert await authorities.state() == {"active": second, "prepared": third}


async def test_only_the_prepared_one_is_activated(authorities: Authorities) -> None:
    first = (await authorities.state())["active"]
    for authority_id in ("nope", first):
        assert await authorities.refused("Activate", authority_id) == (
            Status.INVALID_ARGUMENT,
            "unexpected authority ID",
        )
    assert await authorities.refused("Activate", "") == (Status.INVALID_ARGUMENT, "no authority ID provided")
    second = await authorities.prepare()
    await authorities.do("Activate", second)
    assert await authorities.refused("Activate", first) == (
        Status.INTERNAL,
        "only Prepared authorities can be activated: unsupported local authority status: OLD",
    )


async def test_only_the_old_one_is_tainted(authorities: Authorities) -> None:
    first = (await authorities.state())["active"]
    second = await authorities.prepare()
    for authority_id, words in (
        ("", "no authority ID provided"),
        ("nope", "unexpected authority ID"),
        (first, "unable to taint current local authority"),
        (second, "only Old local authorities can be tainted: unsupported local authority status: PREPARED"),
    ):
        assert await authorities.refused("Taint", authority_id) == (Status.INVALID_ARGUMENT, words)
    await authorities.do("Activate", second)
    await authorities.do("Taint", first)
    assert await authorities.refused("Taint", first) == (
        Status.INTERNAL,
        f"failed to taint {WORDS[authorities.kind]} authority: {NAMES[authorities.kind]} is already tainted",
    )


async def test_only_what_is_tainted_and_not_in_use_is_revoked(authorities: Authorities) -> None:
    kind = authorities.kind
    only_old = "only Old local authority can be revoked"
    first = (await authorities.state())["active"]
    second = await authorities.prepare()
    for authority_id, words in (
        ("", "no authority ID provided"),
        (first, "unable to use current authority"),
        (second, only_old if kind == "X509" else "unable to use a prepared key"),
        ("nope", only_old if kind == "X509" else f"no {kind} authority found with provided authority ID"),
    ):
        assert await authorities.refused("Revoke", authority_id) == (
            Status.INVALID_ARGUMENT,
            f"invalid authority ID: {words}",
        )
    await authorities.do("Activate", second)
    untainted = f"failed to revoke {WORDS[kind]} authority: it is not possible to revoke an untainted {NAMES[kind]}"
    assert await authorities.refused("Revoke", first) == (Status.INTERNAL, untainted)
    await authorities.do("Taint", first)
    await authorities.do("Revoke", first)
    unknown = {"X509": "no root CA found with provided subject key ID"}.get(
        kind, f"no {kind} Key found with provided key ID"
    )
    assert await authorities.refused("Revoke", first) == (
        Status.INTERNAL,
        f"failed to revoke {WORDS[kind]} authority: {unknown}",
    )


@pytest.mark.parametrize("kind", ["JWT", "WIT"])
async def test_a_key_prepared_in_vain_can_be_revoked_when_tainted_only(start_server: Any, kind: str) -> None:
    authorities = Authorities(await start_server(tokens=Tokens(wit=True)), kind)
    skipped = await authorities.prepare()
    await authorities.prepare()
    assert await authorities.refused("Taint", skipped) == (Status.INVALID_ARGUMENT, "unexpected authority ID")
    assert await authorities.refused("Revoke", skipped) == (
        Status.INTERNAL,
        f"failed to revoke {kind} authority: it is not possible to revoke an untainted key",
    )


async def test_there_is_no_upstream_authority(live: Any) -> None:
    stub = localauthority_grpc.LocalAuthorityStub(live.admin)
    for call in (
        stub.TaintX509UpstreamAuthority(localauthority_pb2.TaintX509UpstreamAuthorityRequest(subject_key_id="x")),
        stub.RevokeX509UpstreamAuthority(localauthority_pb2.RevokeX509UpstreamAuthorityRequest()),
    ):
        with pytest.raises(GRPCError) as caught:
            await call
        assert (caught.value.status, caught.value.message) == (
            Status.FAILED_PRECONDITION,
            "upstream authority is not configured",
        )


async def test_what_is_signed_follows_the_activation(live: Any) -> None:
    authorities = Authorities(live, "JWT")
    stub = svid_grpc.SVIDStub(live.admin)
    request = svid_pb2.MintJWTSVIDRequest(id=types_pb2.SPIFFEID(trust_domain="example.org", path="/w"), audience=["a"])
    before = (await stub.MintJWTSVID(request)).svid.token
    await authorities.do("Activate", await authorities.prepare())
    after = (await stub.MintJWTSVID(request)).svid.token
    assert before.partition(".")[0] != after.partition(".")[0]  # the header names the key


async def test_agents_that_verify_by_the_bundle_reach_the_server_through_a_forced_rotation(live: Any) -> None:
    """Prepare, activate, taint, revoke: the server's own SVID never comes from an authority a caller has dropped."""
    authorities = Authorities(live, "X509")
    first = (await authorities.state())["active"]
    svid = await live.attest()
    await authorities.do("Activate", await authorities.prepare())
    await authorities.do("Taint", first)
    await authorities.do("Revoke", first)
    bundle = await live.bundle()
    assert len(bundle) == 1
    caller = await live.caller(bundle=bundle)  # trusts the new root alone
    assert (await bundle_grpc.BundleStub(caller).GetBundle(bundle_pb2.GetBundleRequest())).x509_authorities
    with pytest.raises((GRPCError, OSError)):  # and an SVID of the revoked root opens nothing
        stub = svid_grpc.SVIDStub(await live.caller(svid, bundle=bundle))
        await stub.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest(params=[svid_pb2.NewX509SVIDParams()]))
