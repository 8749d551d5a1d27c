"""The sync against a scripted server: pages, changes, partial and total failures, garbage; what is good stays."""

import asyncio
from datetime import timedelta

import pytest

from authsec_sdk.proto.spire import agent_pb2, entry_pb2, svid_pb2, types_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from authsec_sdk.testing import TestCA
from icp_agent.domain.agent_state import Phase
from icp_agent.keys import KeyType
from icp_agent.syncer import SyncSettings

pytestmark = pytest.mark.anyio


def cache(agent):
    return agent.agent.identities.cache


class TestPaging:
    async def test_more_than_a_page(self, server, start_agent, entry, eventually):
        server.entries = {f"e{n:04}": entry(f"e{n:04}", f"/w/{n}") for n in range(1201)}
        agent = await start_agent()
        assert len(cache(agent).entries) == 1201
        assert server.asked_ids == [500, 500, 201]
        await eventually(lambda: len(cache(agent).svids) == 1000)

    async def test_only_what_changed_is_asked_for(self, server, start_agent, entry, eventually):
        server.page_size = 10
        server.entries = {f"e{n:02}": entry(f"e{n:02}", f"/w/{n}") for n in range(35)}
        agent = await start_agent()
        assert server.asked_ids == [10, 10, 10, 5]
        del server.entries["e07"]
        server.entries["e03"] = entry("e03", "/changed", revision_number=1)
        server.entries["e04"] = entry("e04", "/again", created_at=99)
        server.entries["new"] = entry("new", "/new")
        await eventually(lambda: "new" in cache(agent).entries)
        assert server.asked_ids == [10, 10, 10, 5, 3]
        assert "e07" not in cache(agent).entries
        assert cache(agent).entries["e03"].spiffe_id.path == "/changed"
        assert cache(agent).entries["e04"].spiffe_id.path == "/again"

    async def test_never_more_than_500_ids_at_once(self, server, start_agent, entry):
        server.page_size = 700
        server.entries = {f"e{n:04}": entry(f"e{n:04}", f"/w/{n}") for n in range(701)}
        agent = await start_agent(sync=SyncSettings(interval=timedelta(milliseconds=50), svid_limit=1))
        assert len(cache(agent).entries) == 701
        assert server.asked_ids == [500, 201]

    async def test_an_entry_deleted_while_it_is_asked_for(self, server, start_agent, entry, eventually):
        server.page_size = 2
        server.entries = {id_: entry(id_, f"/{id_}") for id_ in "abc"}

        async def sync(call):
            await call.stream.recv_message()
            response = entry_pb2.SyncAuthorizedEntriesResponse
            revisions = [entry_pb2.EntryRevision(id=id_) for id_ in "abc"]
            await call.stream.send_message(response(entry_revisions=revisions[:2], more=True))
            await call.stream.send_message(response(entry_revisions=revisions[2:]))
            async for request in call.stream:
                known = [server.entries[id_] for id_ in request.ids if id_ != "b"]
                await call.stream.send_message(response(entries=known))
            return True

        server.script["SyncAuthorizedEntries"] = sync
        agent = await start_agent()
        assert set(cache(agent).entries) == {"a", "c"}

    async def test_a_page_in_pieces(self, server, start_agent, entry):
        server.entries = {id_: entry(id_, f"/{id_}") for id_ in "abcd"}

        async def sync(call):
            await call.stream.recv_message()
            response = entry_pb2.SyncAuthorizedEntriesResponse
            revisions = [entry_pb2.EntryRevision(id=id_) for id_ in "abcd"]
            await call.stream.send_message(response(entry_revisions=revisions))
            async for request in call.stream:
                *some, last = [server.entries[id_] for id_ in request.ids]
                await call.stream.send_message(response(entries=some, more=True))
                await call.stream.send_message(response(entries=[last]))
            return True

        server.script["SyncAuthorizedEntries"] = sync
        agent = await start_agent()
        assert set(cache(agent).entries) == set("abcd")

    async def test_the_whole_list_where_paging_is_off(self, server, start_agent, entry):
        server.entries = {f"e{n:04}": entry(f"e{n:04}", f"/w/{n}") for n in range(600)}
        agent = await start_agent(paged_sync=False)
        assert len(cache(agent).entries) == 600
        assert server.calls["SyncAuthorizedEntries"] == 0


class TestNonsense:
    """Each of these must end one sync and change nothing."""

    async def stays(self, server, agent, eventually, words):
        before = dict(cache(agent).entries)
        await eventually(lambda: words in agent.problem, lambda: agent.problem)
        assert agent.phase is Phase.SERVER_AWAY
        assert dict(cache(agent).entries) == before
        server.script.clear()
        await agent.until(Phase.READY)

    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([{"entry_revisions": ["a"], "entries": ["a"]}], "entries among entry revisions"),
            ([{"entry_revisions": ["a"], "more": True}, {"entries": ["a"]}], "entries among entry revisions"),
            ([{"entry_revisions": ["zz"]}, {"entry_revisions": ["a"]}], "revisions among entries"),
            ([{"entry_revisions": ["zz"], "more": True}], "before it was complete"),
            ([{"entry_revisions": ["zz"]}], "before it was complete"),
            ([], "before it was complete"),
            ([{"entry_revisions": ["zz"]}, {"entries": ["zz", "zz"], "more": True}], "more entries than the 1"),
        ],
        ids=["mixed", "mixed later", "revisions for ids", "half a list", "ids unanswered", "nothing", "too many"],
    )
    async def test_a_sync_out_of_order(self, server, start_agent, entry, eventually, messages, words):
        server.entries = {"a": entry("a")}
        agent = await start_agent()

        async def sync(call):
            await call.stream.recv_message()
            for message in messages:
                await call.stream.send_message(
                    entry_pb2.SyncAuthorizedEntriesResponse(
                        entries=[entry(id_) for id_ in message.get("entries", ())],
                        entry_revisions=[entry_pb2.EntryRevision(id=id_) for id_ in message.get("entry_revisions", ())],
                        more=message.get("more", False),
                    )
                )
            return True

        server.script["SyncAuthorizedEntries"] = sync
        await self.stays(server, agent, eventually, words)

    async def test_an_error_in_the_middle_of_a_sync(self, server, start_agent, entry, eventually):
        server.entries = {"a": entry("a")}
        agent = await start_agent()

        async def sync(call):
            await call.stream.recv_message()
            revisions = [entry_pb2.EntryRevision(id="zz")]
            await call.stream.send_message(
                entry_pb2.SyncAuthorizedEntriesResponse(entry_revisions=revisions, more=True)
            )
            raise GRPCError(Status.UNAVAILABLE, "the database is away")

        server.script["SyncAuthorizedEntries"] = sync
        await self.stays(server, agent, eventually, "the database is away")

    async def test_a_malformed_entry_costs_only_itself(self, server, start_agent, entry):
        server.entries = {
            "good": entry("good"),
            "foreign": types_pb2.Entry(
                id="foreign",
                spiffe_id=types_pb2.SPIFFEID(trust_domain="other.org", path="/x"),
                selectors=[types_pb2.Selector(type="unix", value="uid:0")],
            ),
            "no selectors": types_pb2.Entry(
                id="no selectors", spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/x")
            ),
            "bad path": entry("bad path", "//"),
        }
        agent = await start_agent()
        assert set(cache(agent).entries) == {"good"}

    @pytest.mark.parametrize(
        ("bundle", "words"),
        [
            (types_pb2.Bundle(trust_domain="other.org"), "bundle of other.org"),
            (types_pb2.Bundle(trust_domain="NOT A DOMAIN"), "cannot be read"),
            (
                types_pb2.Bundle(
                    trust_domain="example.org", x509_authorities=[types_pb2.X509Certificate(asn1=b"\x30\x00junk")]
                ),
                "cannot be read",
            ),
        ],
        ids=["another's", "no domain", "junk"],
    )
    async def test_a_bundle_that_is_none(self, server, start_agent, entry, eventually, bundle, words):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        good = cache(agent).bundle

        async def get(call):
            await call.stream.recv_message()
            await call.stream.send_message(bundle)
            return True

        server.script["GetBundle"] = get
        await self.stays(server, agent, eventually, words)
        assert cache(agent).bundle == good

    async def test_an_answer_that_is_too_large(self, server, start_agent, entry, eventually):
        server.entries = {"a": entry("a")}
        agent = await start_agent()

        async def get(call):
            await call.stream.recv_message()
            authority = types_pb2.X509Certificate(asn1=bytes(33 * 1024 * 1024))
            await call.stream.send_message(types_pb2.Bundle(trust_domain="example.org", x509_authorities=[authority]))
            return True

        server.script["GetBundle"] = get
        await self.stays(server, agent, eventually, "larger than max")


class TestBundles:
    async def test_a_new_authority_reaches_cache_and_disk(self, server, start_agent, eventually, entry):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        server.rotate()
        await eventually(lambda: cache(agent).bundle == server.ca.bundle())
        stored = agent.agent._storage.load_bundle()
        assert stored.x509_bundle() == server.ca.bundle()

    async def test_a_bundle_without_authorities_is_not_believed(self, server, start_agent, eventually, entry):
        server.entries = {"a": entry("a")}
        agent = await start_agent()

        async def empty(call):
            await call.stream.recv_message()
            await call.stream.send_message(types_pb2.Bundle(trust_domain="example.org"))
            return True

        server.script["GetBundle"] = empty
        await eventually(lambda: "without any X.509 authority" in agent.problem, lambda: agent.problem)
        assert cache(agent).bundle == server.ca.bundle()
        assert agent.agent._storage.load_bundle().x509_bundle() == server.ca.bundle()
        server.script.clear()
        await agent.until(Phase.READY)

    async def test_an_empty_federated_bundle_is_left_out(self, server, start_agent, eventually, entry):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", federates_with=["partner.org"])}
        agent = await start_agent()
        server.federated["partner.org"] = X509Bundle(partner.trust_domain, ())
        await eventually(lambda: len(cache(agent).federated) == 0)
        assert agent.phase is Phase.READY

    async def test_federated_bundles_are_fetched(self, server, start_agent, eventually, entry):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", federates_with=["partner.org", "unknown.org", "example.org"])}
        agent = await start_agent()
        assert list(cache(agent).federated) == [TrustDomain.parse("partner.org")]
        partner.rotate()
        server.federated["partner.org"] = partner.bundle()
        await eventually(lambda: cache(agent).federated[partner.trust_domain] == partner.bundle())

    async def test_a_server_without_federation(self, server, start_agent, entry, caplog, eventually):
        async def no(call):
            raise GRPCError(Status.UNIMPLEMENTED, "unknown method")

        server.script["GetFederatedBundle"] = no
        server.entries = {"a": entry("a", federates_with=["partner.org"])}
        await start_agent()
        await eventually(lambda: server.calls["GetFederatedBundle"] > 2)
        told = [record for record in caplog.records if "does not offer federated" in record.getMessage()]
        assert len(told) == 1

    async def test_a_malformed_federated_bundle_keeps_the_last_good_one(self, server, start_agent, eventually, entry):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", federates_with=["partner.org"])}
        agent = await start_agent()

        async def junk(call):
            await call.stream.recv_message()
            authority = types_pb2.X509Certificate(asn1=b"junk")
            await call.stream.send_message(types_pb2.Bundle(trust_domain="partner.org", x509_authorities=[authority]))
            return True

        server.script["GetFederatedBundle"] = junk
        calls = server.calls["GetFederatedBundle"]
        await eventually(lambda: server.calls["GetFederatedBundle"] > calls + 2)
        assert agent.phase is Phase.READY
        assert cache(agent).federated[partner.trust_domain] == partner.bundle()

    async def test_a_bundle_for_another_domain_than_asked(self, server, start_agent, eventually, entry):
        server.entries = {"a": entry("a", federates_with=["partner.org"])}

        async def other(call):
            await call.stream.recv_message()
            await call.stream.send_message(types_pb2.Bundle(trust_domain="evil.org"))
            return True

        server.script["GetFederatedBundle"] = other
        agent = await start_agent()
        assert len(cache(agent).federated) == 0


class TestSigning:
    async def test_batches_halve_when_refused_and_grow_again(self, server, start_agent, entry, eventually):
        server.maximum_batch = 100
        server.entries = {f"e{n:03}": entry(f"e{n:03}", f"/w/{n}") for n in range(400)}
        agent = await start_agent()
        await eventually(lambda: len(cache(agent).svids) == 400)
        assert server.batches[:3] == [400, 200, 100]
        assert max(server.batches[3:]) <= 200

    async def test_never_more_than_500(self, server, start_agent, entry, eventually):
        server.entries = {f"e{n:03}": entry(f"e{n:03}", f"/w/{n}") for n in range(750)}
        agent = await start_agent()
        await eventually(lambda: len(cache(agent).svids) == 750)
        assert server.batches == [500, 250]

    async def test_one_refused_item_costs_only_itself(self, server, start_agent, entry, eventually):
        server.entries = {"a": entry("a", "/a"), "b": entry("b", "/b")}

        async def refuse_b(call):
            request = await call.stream.recv_message()
            result = svid_pb2.BatchNewX509SVIDResponse.Result
            no = result(status=types_pb2.Status(code=5, message="entry not found or not authorized"))
            results = [no if each.entry_id == "b" else server.sign_entry(each) for each in request.params]
            await call.stream.send_message(svid_pb2.BatchNewX509SVIDResponse(results=results))
            return True

        server.script["BatchNewX509SVID"] = refuse_b
        agent = await start_agent()
        assert set(cache(agent).svids) == {"a"}
        assert cache(agent).failed == {"b"}
        assert agent.phase is Phase.READY
        server.script.clear()
        await eventually(lambda: set(cache(agent).svids) == {"a", "b"})
        assert cache(agent).failed == frozenset()

    async def test_expired_svids_are_refused_and_not_asked_for_without_end(
        self, server, start_agent, entry, eventually, workload
    ):
        server.entries = {"a": entry("a", "/a")}
        server.svid_ttl = timedelta(seconds=-60)
        settings = SyncSettings(interval=timedelta(hours=1))
        agent = await start_agent(wait=False, sync=settings)
        await eventually(lambda: cache(agent).failed == {"a"})
        calls = server.calls["BatchNewX509SVID"]
        for _ in range(3):
            assert (await workload(agent).refusal()).status is Status.UNAVAILABLE
        assert dict(cache(agent).svids) == {}
        assert server.calls["BatchNewX509SVID"] == calls == 1

    async def signed_wrongly(self, server, start_agent, entry, eventually, make):
        server.entries = {"a": entry("a", "/a")}

        async def sign(call):
            request = await call.stream.recv_message()
            await call.stream.send_message(svid_pb2.BatchNewX509SVIDResponse(results=make(request.params)))
            return True

        server.script["BatchNewX509SVID"] = sign
        agent = await start_agent(wait=False)
        await eventually(lambda: server.calls["BatchNewX509SVID"] > 1)
        assert dict(cache(agent).svids) == {}

    async def test_an_svid_for_another_id_is_not_taken(self, server, start_agent, entry, eventually):
        result = svid_pb2.BatchNewX509SVIDResponse.Result
        await self.signed_wrongly(
            server,
            start_agent,
            entry,
            eventually,
            lambda params: [result(svid=server.sign(each.csr, "/admin", server.svid_ttl)) for each in params],
        )

    async def test_an_svid_for_another_key_is_not_taken(self, server, start_agent, entry, eventually):
        from icp_agent.keys import generate_key, signing_request

        result = svid_pb2.BatchNewX509SVIDResponse.Result
        csr = signing_request(generate_key())
        await self.signed_wrongly(
            server,
            start_agent,
            entry,
            eventually,
            lambda params: [result(svid=server.sign(csr, "/a", server.svid_ttl)) for _ in params],
        )

    @pytest.mark.parametrize(
        "make",
        [
            lambda params: [],
            lambda params: [svid_pb2.BatchNewX509SVIDResponse.Result()] * (len(params) + 1),
            lambda params: [svid_pb2.BatchNewX509SVIDResponse.Result() for _ in params],
            lambda params: [
                svid_pb2.BatchNewX509SVIDResponse.Result(svid=types_pb2.X509SVID(cert_chain=[b"junk"])) for _ in params
            ],
        ],
        ids=["too few", "too many", "empty", "junk"],
    )
    async def test_garbage(self, server, start_agent, entry, eventually, make):
        await self.signed_wrongly(server, start_agent, entry, eventually, make)

    async def test_svids_are_renewed_at_half_life_with_new_keys(self, server, start_agent, entry, eventually):
        server.svid_ttl = timedelta(seconds=2)  # NotBefore lies 10 s back: half of 12 s has passed already
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        await eventually(lambda: server.calls["BatchNewX509SVID"] > 2)
        first = cache(agent).svids["a"].svid
        await eventually(lambda: cache(agent).svids["a"].svid != first)
        assert cache(agent).svids["a"].svid.key_der() != first.key_der()

    async def test_a_changed_entry_is_signed_anew(self, server, start_agent, entry, eventually):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        first = cache(agent).svids["a"].svid
        server.entries = {"a": entry("a", revision_number=1, dns_names=["web.example.org"])}
        await eventually(lambda: cache(agent).svids["a"].svid != first)

    @pytest.mark.parametrize("key_type", list(KeyType))
    async def test_key_types(self, server, start_agent, entry, key_type):
        server.entries = {"a": entry("a")}
        agent = await start_agent(sync=SyncSettings(key_type=key_type))
        key = cache(agent).svids["a"].svid.private_key
        assert key.key_size == {"ec-p256": 256, "ec-p384": 384, "rsa-2048": 2048}[key_type]

    async def test_the_limit_bounds_what_nobody_asked_for(self, server, start_agent, entry, workload, eventually):
        server.entries = {f"e{n}": entry(f"e{n}", f"/w/{n}", f"unix:nobody:{n}") for n in range(5)}
        server.entries["mine"] = entry("mine", "/mine")
        sync = SyncSettings(interval=timedelta(milliseconds=50), svid_limit=2)
        agent = await start_agent(sync=sync)
        assert set(cache(agent).svids) == {"e0", "e1"}
        assert await workload(agent).ids() == ["spiffe://example.org/mine"]
        await eventually(lambda: len(cache(agent).svids) == 2)

    async def test_without_prefetch_an_svid_is_signed_when_asked_for(self, server, start_agent, entry, workload):
        attributes = types_pb2.Entry.AdditionalAttributes(disable_x509_svid_prefetch=True)
        server.entries = {"a": entry("a", additional_attributes=attributes)}
        # A long interval: the answer must not have to wait for the next look at the server.
        agent = await start_agent(sync=SyncSettings(interval=timedelta(minutes=5)))
        assert dict(cache(agent).svids) == {}
        assert await workload(agent).ids() == ["spiffe://example.org/web"]


class TestServerAway:
    async def test_restart_and_outage(self, server, start_agent, entry, workload, eventually):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        await server.stop()
        await agent.until(Phase.SERVER_AWAY)
        assert await workload(agent).ids() == ["spiffe://example.org/web"]
        server.entries["b"] = entry("b", "/b")
        await server.start()
        await agent.until(Phase.READY)
        assert await workload(agent).ids() == ["spiffe://example.org/web", "spiffe://example.org/b"]

    async def test_a_connection_that_breaks_is_made_again(self, server, start_agent, entry, eventually):
        agent = await start_agent()
        for _ in range(3):
            await server.stop()
            await server.start()
            calls = server.calls["SyncAuthorizedEntries"]
            await eventually(lambda calls=calls: server.calls["SyncAuthorizedEntries"] > calls)
        await agent.until(Phase.READY)

    @pytest.mark.parametrize(
        "status",
        [Status.UNAVAILABLE, Status.INTERNAL, Status.UNKNOWN, Status.PERMISSION_DENIED, Status.INVALID_ARGUMENT],
    )
    async def test_errors_without_a_reason_cost_nothing(self, server, start_agent, entry, eventually, status):
        """A PERMISSION_DENIED without details may come from anything in between: identities stay."""
        server.entries = {"a": entry("a")}
        agent = await start_agent()

        async def fail(call):
            raise GRPCError(status, "no")

        server.script["SyncAuthorizedEntries"] = fail
        await agent.until(Phase.SERVER_AWAY)
        assert set(cache(agent).svids) == {"a"}
        server.script.clear()
        await agent.until(Phase.READY)

    async def test_a_slow_server_does_not_hold_up_workloads(self, server, start_agent, entry, workload, eventually):
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        entered = asyncio.Event()

        async def hang(call):
            entered.set()
            await asyncio.sleep(3600)
            return True

        server.script["SyncAuthorizedEntries"] = hang
        await entered.wait()
        assert await workload(agent).ids() == ["spiffe://example.org/web"]


class TestOwnSVID:
    async def test_renewal_makes_the_server_see_the_new_serial(self, server, start_agent, eventually):
        server.agent_ttl = timedelta(seconds=8)  # of 18 s: renewed after 9, that is now
        agent = await start_agent()
        first = agent.agent._node.svid
        await eventually(lambda: agent.agent._node.svid != first)
        serial = str(agent.agent._node.svid.leaf.serial_number)
        await eventually(
            lambda: server.serials[-1] == serial or str(server.serials[-1]) != str(first.leaf.serial_number)
        )
        assert agent.phase is Phase.READY

    async def test_renewal_that_fails_is_tried_again(self, server, start_agent, eventually):
        server.agent_ttl = timedelta(seconds=8)
        failures = []

        async def fail(call):
            if len(failures) < 1:
                failures.append(call)
                raise GRPCError(Status.UNAVAILABLE, "not now")
            return False

        server.script["RenewAgent"] = fail
        agent = await start_agent()
        first = agent.agent._node.svid
        await eventually(lambda: agent.agent._node.svid != first)
        assert failures

    async def test_an_answer_for_another_agent_is_not_taken(self, server, start_agent, eventually):
        server.agent_ttl = timedelta(seconds=8)

        async def other(call):
            request = await call.stream.recv_message()
            svid = server.sign(request.params.csr, "/spire/agent/join_token/other", timedelta(hours=1))
            await call.stream.send_message(agent_pb2.RenewAgentResponse(svid=svid))
            return True

        server.script["RenewAgent"] = other
        agent = await start_agent()
        first = agent.agent._node.svid
        await eventually(lambda: server.calls["RenewAgent"] > 0)
        await asyncio.sleep(0.2)
        assert agent.agent._node.svid == first

    async def test_expired_and_the_token_used_serves_what_it_has(
        self, server, start_agent, entry, workload, eventually
    ):
        server.agent_ttl = timedelta(seconds=3)

        async def fail(call):
            raise GRPCError(Status.UNAVAILABLE, "not now")

        server.script["RenewAgent"] = fail
        server.entries = {"a": entry("a")}
        agent = await start_agent()
        await agent.until(Phase.EXPIRED)
        assert await workload(agent).ids() == ["spiffe://example.org/web"]
        await eventually(lambda: "already been used" in agent.problem)
        server.script.clear()
        server.agent_ttl = timedelta(hours=1)
        server.tokens.add("good-token")
        await agent.until(Phase.READY)
