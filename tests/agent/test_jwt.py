"""JWT-SVIDs as a workload sees them: fetched, cached, renewed, dropped when tainted, and validated."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.proto.spire import svid_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import JWTSVID, BundleSet, TrustBundle
from authsec_sdk.spire.tainted import PublishedBundle, TaintedAuthorities
from authsec_sdk.spire.wire import published_to_wire
from authsec_sdk.testing import TestCA
from authsec_sdk.testing.tokens import TestTokenCA
from icp_agent.domain.agent_state import DenialReason, Phase
from icp_agent.jwt_svids import JWTSettings

pytestmark = pytest.mark.anyio

HEADER = {"workload.spiffe.io": "true"}


class Tokens:
    """Makes the scripted server sign JWT-SVIDs, and publish keys and their marks."""

    def __init__(self, server):
        self.server = server
        self.ca = TestTokenCA("example.org")
        self.tainted = set()
        self.asked = Counter()
        self.ttl = timedelta(minutes=5)
        self.path = None
        self.delay = 0.0
        self.error = None
        server.script["NewJWTSVID"] = self.sign
        server.bundle = self.bundle

    def bundle(self):
        own = self.server.ca.bundle()
        jwt = self.ca.jwt_bundle()
        bundle = TrustBundle(own.trust_domain, own.authorities, jwt.authorities, sequence_number=1)
        return published_to_wire(PublishedBundle(bundle, TaintedAuthorities(jwt_key_ids=frozenset(self.tainted))))

    async def sign(self, call):
        request = await call.stream.recv_message()
        self.asked[request.entry_id] += 1
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        path = self.path or self.server.entries[request.entry_id].spiffe_id.path
        now = int(datetime.now(UTC).timestamp())
        svid = types_pb2.JWTSVID(
            token=self.ca.jwt_token(path, request.audience, ttl=self.ttl),
            id=types_pb2.SPIFFEID(trust_domain="example.org", path=path),
            issued_at=now,
            expires_at=now + int(self.ttl.total_seconds()),
        )
        await call.stream.send_message(svid_pb2.NewJWTSVIDResponse(svid=svid))
        return True


@pytest.fixture
def tokens(server):
    return Tokens(server)


class Workload:
    def __init__(self, agent):
        self.agent = agent

    async def fetch(self, *audience, spiffe_id=""):
        request = workload_pb2.JWTSVIDRequest(audience=audience, spiffe_id=spiffe_id)
        return (await self._call("FetchJWTSVID", request)).svids

    async def validate(self, token, audience="a"):
        request = workload_pb2.ValidateJWTSVIDRequest(audience=audience, svid=token)
        return await self._call("ValidateJWTSVID", request)

    async def _call(self, method, request):
        async with self.agent.channel() as channel:
            stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
            return await getattr(stub, method)(request, timeout=60, metadata=HEADER)

    async def refused(self, call):
        with pytest.raises(GRPCError) as caught:
            await call
        return caught.value.status, caught.value.message or ""


class Clock:
    """The real time, and what a test adds to it."""

    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def agent(server, tokens, start_agent, entry, clock):
    server.entries = {"a": entry("a", hint="h"), "b": entry("b", "/db")}
    return await start_agent(options={"clock": clock})


@pytest.fixture
def workload(agent):
    return Workload(agent)


class TestFetchJWTSVID:
    async def test_one_of_each_identity_in_the_order_of_entries(self, tokens, workload):
        first, second = await workload.fetch("x", "y")
        assert (first.spiffe_id, first.hint) == ("spiffe://example.org/web", "h")
        assert (second.spiffe_id, second.hint) == ("spiffe://example.org/db", "")
        bundles = BundleSet.of(tokens.ca.jwt_bundle())
        svid = JWTSVID.parse_and_validate(first.svid, bundles, ["y"], now=datetime.now(UTC))
        assert (str(svid.id), svid.audience) == (first.spiffe_id, ("x", "y"))

    async def test_the_one_that_is_named(self, tokens, workload):
        (svid,) = await workload.fetch("x", spiffe_id="spiffe://example.org/db")
        assert svid.spiffe_id == "spiffe://example.org/db"
        assert tokens.asked == {"b": 1}
        assert await workload.refused(workload.fetch("x", spiffe_id="spiffe://example.org/other")) == (
            Status.PERMISSION_DENIED,
            "no identity issued",
        )

    @pytest.mark.parametrize(
        ("audience", "spiffe_id", "words"),
        [((), "", "audience must be specified"), (("x",), "nope", "invalid requested SPIFFE ID: ")],
    )
    async def test_what_is_no_request(self, workload, audience, spiffe_id, words):
        status, message = await workload.refused(workload.fetch(*audience, spiffe_id=spiffe_id))
        assert status is Status.INVALID_ARGUMENT
        assert message.startswith(words)

    async def test_nobody_without_an_entry_gets_one(self, server, tokens, start_agent):
        workload = Workload(await start_agent())
        assert await workload.refused(workload.fetch("x")) == (Status.PERMISSION_DENIED, "no identity issued")
        assert not tokens.asked

    async def test_what_goes_to_a_store_is_not_handed_out(self, server, tokens, start_agent, entry):
        server.entries = {"a": entry("a", store_svid=True)}
        workload = Workload(await start_agent())
        assert (await workload.refused(workload.fetch("x")))[0] is Status.PERMISSION_DENIED

    async def test_a_fresh_token_is_handed_out_again_whatever_the_order_of_its_audience(self, tokens, workload):
        first = await workload.fetch("x", "y")
        assert await workload.fetch("y", "x") == first
        assert tokens.asked == {"a": 1, "b": 1}
        assert await workload.fetch("x") != first
        assert tokens.asked == {"a": 2, "b": 2}

    async def test_many_callers_at_once_are_one_request(self, tokens, workload):
        tokens.delay = 0.2
        answers = await asyncio.gather(*(workload.fetch("x", spiffe_id="spiffe://example.org/db") for _ in range(10)))
        assert len({answer[0].svid for answer in answers}) == 1
        assert tokens.asked == {"b": 1}

    async def test_after_half_its_life_another_one_is_asked_for(self, tokens, workload, clock):
        await workload.fetch("x")
        clock.ahead = timedelta(minutes=2)
        await workload.fetch("x")
        assert tokens.asked == {"a": 1, "b": 1}
        clock.ahead = timedelta(minutes=2, seconds=31)
        await workload.fetch("x")
        assert tokens.asked == {"a": 2, "b": 2}

    async def test_tokens_with_ids_of_their_own_are_never_handed_out_twice(self, server, tokens, start_agent, entry):
        attributes = types_pb2.Entry.AdditionalAttributes(jwt_svid_include_jti=True)
        server.entries = {"a": entry("a", additional_attributes=attributes)}
        agent = await start_agent()
        workload = Workload(agent)
        await workload.fetch("x")
        await workload.fetch("x")
        assert tokens.asked == {"a": 2}
        assert len(agent.agent.jwt_svids) == 0

    async def test_the_cache_keeps_no_more_than_its_limit(self, server, tokens, start_agent, entry):
        server.entries = {"a": entry("a")}
        agent = await start_agent(jwt=JWTSettings(limit=2))
        workload = Workload(agent)
        for audience in "xyxz":  # x was used again, so y goes
            await workload.fetch(audience)
        assert tokens.asked == {"a": 3}
        await workload.fetch("x")
        assert tokens.asked == {"a": 3}
        await workload.fetch("y")
        assert tokens.asked == {"a": 4}
        assert len(agent.agent.jwt_svids) == 2


class TestTrouble:
    async def test_what_cannot_be_signed_is_unavailable(self, tokens, workload):
        tokens.error = GRPCError(Status.UNIMPLEMENTED, "JWT functionality is disabled")
        status, message = await workload.refused(workload.fetch("x"))
        assert status is Status.UNAVAILABLE
        assert message.startswith("could not fetch JWT-SVID: ")
        assert "JWT functionality is disabled" in message

    async def test_a_token_of_another_id_is_not_handed_out(self, tokens, workload):
        tokens.path = "/admin"
        status, message = await workload.refused(workload.fetch("x"))
        assert status is Status.UNAVAILABLE
        assert "spiffe://example.org/admin" in message

    async def test_a_token_that_is_over_is_not_handed_out(self, tokens, workload):
        tokens.ttl = -timedelta(minutes=1)
        assert (await workload.refused(workload.fetch("x")))[0] is Status.UNAVAILABLE

    async def test_while_the_server_is_away_the_one_kept_is_used_until_it_expires(self, tokens, workload, clock):
        first = await workload.fetch("x")
        tokens.error = GRPCError(Status.UNAVAILABLE, "away")
        clock.ahead = timedelta(minutes=4)  # past half its life
        assert await workload.fetch("x") == first
        clock.ahead = timedelta(minutes=5)
        assert (await workload.refused(workload.fetch("x")))[0] is Status.UNAVAILABLE

    async def test_a_banned_agent_hands_out_none(self, server, tokens, agent, workload, eventually):
        await workload.fetch("x")
        server.denial = DenialReason.AGENT_BANNED
        await agent.until(Phase.BANNED)
        assert (await workload.refused(workload.fetch("x")))[0] is Status.PERMISSION_DENIED
        assert len(agent.agent.jwt_svids) == 0

    async def test_an_entry_that_goes_while_its_token_is_signed_has_none(
        self, server, tokens, agent, workload, eventually
    ):
        tokens.delay = 1.5
        fetching = asyncio.create_task(workload.refused(workload.fetch("x", spiffe_id="spiffe://example.org/db")))
        await eventually(lambda: tokens.asked["b"])
        del server.entries["b"]
        tokens.path = "/db"
        await eventually(lambda: "b" not in agent.agent.identities.cache.entries)
        assert await fetching == (Status.PERMISSION_DENIED, "no identity issued")

    async def test_what_is_signed_while_all_is_forgotten_is_not_kept(self, tokens, agent, workload, eventually):
        tokens.delay = 0.5
        fetching = asyncio.create_task(workload.fetch("x"))
        await eventually(lambda: tokens.asked["a"])
        agent.agent.jwt_svids.clear()
        await fetching
        assert len(agent.agent.jwt_svids) <= 1  # the second identity's, asked for afterwards


class TestRotation:
    async def test_tokens_of_a_tainted_authority_are_dropped(self, tokens, agent, workload, eventually):
        old = tokens.ca.jwt_signer.key_id
        (first, _) = await workload.fetch("x")
        tokens.ca.rotate()
        tokens.tainted = {old}
        await eventually(lambda: len(agent.agent.jwt_svids) == 0)
        (second, _) = await workload.fetch("x")
        assert JWTSVID.unsafe_parse(second.svid).key_id != JWTSVID.unsafe_parse(first.svid).key_id

    async def test_tokens_of_a_revoked_authority_are_dropped(self, tokens, agent, workload, eventually):
        await workload.fetch("x")
        tokens.ca.rotate()
        await eventually(lambda: len(agent.agent.identities.cache.jwt_bundle) == 2)
        assert len(agent.agent.jwt_svids) == 2  # rotation alone renews nothing
        tokens.ca.remove_old_keys()
        await eventually(lambda: len(agent.agent.jwt_svids) == 0)

    async def test_bundles_follow_and_nothing_is_said_twice(self, server, tokens, agent, workload):
        async with agent.channel() as channel:
            stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
            async with stub.FetchJWTBundles.open(timeout=60, metadata=HEADER) as stream:
                await stream.send_message(workload_pb2.JWTBundlesRequest(), end=True)
                seen = []
                for _ in range(3):
                    bundles = (await stream.recv_message()).bundles
                    assert list(bundles) == ["spiffe://example.org"]
                    seen.append({key["kid"] for key in json.loads(bundles["spiffe://example.org"])["keys"]})
                    server.ca.rotate()  # X.509 is no news here
                    tokens.ca.rotate()
        assert [len(keys) for keys in seen] == [1, 2, 3]


class TestValidateJWTSVID:
    async def test_a_valid_token_with_all_its_claims(self, tokens, workload):
        token = tokens.ca.jwt_token("/anybody", ["a", "b"])
        answer = await workload.validate(token)
        assert answer.spiffe_id == "spiffe://example.org/anybody"
        assert list(answer.claims["aud"]) == ["a", "b"]
        assert {"sub", "exp", "iat", "aud"} <= set(answer.claims)

    async def test_the_caller_needs_no_identity(self, server, tokens, start_agent):
        workload = Workload(await start_agent())
        assert (await workload.validate(tokens.ca.jwt_token("/anybody", ["a"]))).spiffe_id

    async def test_what_is_not_valid(self, tokens, workload):
        right = tokens.ca.jwt_token("/anybody", ["a"])
        other = TestTokenCA("other.org").jwt_token("/anybody", ["a"])
        forged = TestTokenCA("example.org").jwt_token("/anybody", ["a"])
        expired = tokens.ca.jwt_token("/anybody", ["a"], ttl=-timedelta(minutes=5))
        wrong = [(right, "b"), *((token, "a") for token in (other, forged, expired, "junk", right[:-4]))]
        for token, audience in wrong:
            status, message = await workload.refused(workload.validate(token, audience))
            assert status is Status.INVALID_ARGUMENT, token
            assert token not in message or token == "junk"
        assert (await workload.refused(workload.validate(right, "")))[1] == "audience must be specified"
        assert (await workload.refused(workload.validate("")))[1] == "svid must be specified"

    @pytest.mark.parametrize(("allowed", "claims"), [(frozenset(), set()), (frozenset({"iat"}), {"iat"})])
    async def test_of_a_foreign_token_only_what_is_allowed(self, server, tokens, start_agent, entry, allowed, claims):
        partner, partner_tokens = TestCA("partner.org"), TestTokenCA("partner.org")

        async def with_keys(call):
            await call.stream.recv_message()
            keys = partner_tokens.jwt_bundle().authorities
            bundle = TrustBundle(partner.trust_domain, partner.bundle().authorities, keys)
            await call.stream.send_message(published_to_wire(PublishedBundle(bundle)))
            return True

        server.script["GetFederatedBundle"] = with_keys
        server.entries = {"a": entry("a", federates_with=["partner.org"])}
        workload = Workload(await start_agent(allowed_foreign_jwt_claims=allowed))
        answer = await workload.validate(partner_tokens.jwt_token("/theirs", ["a"]))
        assert answer.spiffe_id == "spiffe://partner.org/theirs"
        assert set(answer.claims) == {"sub", "exp", "aud"} | claims
