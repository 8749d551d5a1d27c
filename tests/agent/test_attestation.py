"""Attestation: the first trust, the token, the key that outlives a lost reply; refused answers; never giving up."""

import os
from datetime import timedelta

import pytest

from authsec_sdk.proto.spire import agent_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import TrustBundle
from authsec_sdk.spiffe.bundle_json import format_bundle_document
from authsec_sdk.spire.wire import bundle_to_wire
from authsec_sdk.testing import TestCA
from icp_agent.bootstrap import BootstrapTrust, BundleFormat
from icp_agent.domain.agent_state import Phase

pytestmark = pytest.mark.anyio


async def test_attests_with_a_join_token_and_says_which_version_it_is(server, start_agent, eventually):
    agent = await start_agent()
    assert str(agent.agent.board.status.agent_id) == "spiffe://example.org/spire/agent/join_token/good-token"
    await eventually(lambda: server.calls["PostStatus"] == 1)
    assert server.calls["AttestAgent"] == 1


async def test_a_used_token_is_reported_and_tried_again(server, start_agent, eventually):
    server.tokens.clear()
    agent = await start_agent(wait=False)
    await eventually(lambda: "join token does not exist or has already been used" in agent.problem)
    assert agent.phase is Phase.ATTESTING


async def test_a_new_token_in_the_file_needs_no_restart(server, start_agent, eventually, folder):
    token = folder / "token"
    token.write_text("used-token\n")
    agent = await start_agent(wait=False, join_token="", join_token_file=token)
    await eventually(lambda: "already been used" in agent.problem)
    token.write_text("good-token\n")
    await agent.until(Phase.READY)


async def test_no_token_says_what_to_do(start_agent, eventually):
    agent = await start_agent(wait=False, join_token="")
    await eventually(lambda: "token generate" in agent.problem)


@pytest.mark.parametrize("content", [b"x" * 5000, b"\xff\xfe"], ids=["too large", "no text"])
async def test_a_token_file_that_holds_no_token(start_agent, eventually, folder, content):
    token = folder / "token"
    token.write_bytes(content)
    agent = await start_agent(wait=False, join_token="", join_token_file=token)
    await eventually(lambda: "join token file" in agent.problem)


async def test_a_fifo_in_the_tokens_place_holds_nothing_up(start_agent, eventually, folder):
    os.mkfifo(folder / "token")
    agent = await start_agent(wait=False, join_token="", join_token_file=folder / "token")
    await eventually(lambda: "token generate" in agent.problem)


async def test_a_server_that_is_not_there_yet_is_waited_for(server, start_agent, eventually):
    await server.stop()
    agent = await start_agent(wait=False)
    await eventually(lambda: "connecting to" in agent.problem)
    await server.start()
    await agent.until(Phase.READY)


async def test_an_impostor_is_not_believed(server, start_agent, eventually):
    await server.stop()
    server.serving_ca = TestCA("example.org")
    await server.start()
    agent = await start_agent(wait=False)
    await eventually(lambda: "peer refused" in agent.problem)
    assert server.calls["AttestAgent"] == 0, "the token must not reach an impostor"


async def test_a_workload_is_not_taken_for_the_server(server, start_agent, eventually):
    """Whoever has any SVID of the trust domain could otherwise collect tokens and hand out roots."""
    server.server_path = "/web"
    await server.stop()
    await server.start()
    agent = await start_agent(wait=False)
    await eventually(lambda: "not authorized" in agent.problem)
    assert server.calls["AttestAgent"] == 0


async def test_insecure_bootstrap_believes_whoever_answers_and_warns(server, start_agent, caplog):
    await start_agent(trust=BootstrapTrust(insecure=True))
    assert any("insecure bootstrap" in record.getMessage().lower() for record in caplog.records)


async def test_insecure_bootstrap_still_wants_the_servers_id(server, start_agent, eventually):
    server.server_path = "/web"
    await server.stop()
    await server.start()
    agent = await start_agent(wait=False, trust=BootstrapTrust(insecure=True))
    await eventually(lambda: "not authorized" in agent.problem)


async def test_a_bundle_document_bootstraps_too(server, start_agent, folder):
    bundle = server.ca.bundle()
    document = folder / "bundle.json"
    document.write_bytes(format_bundle_document(TrustBundle(bundle.trust_domain, bundle.authorities)))
    await start_agent(trust=BootstrapTrust(path=document, format=BundleFormat.SPIFFE))


async def test_a_bundle_file_put_right_is_taken_up(server, start_agent, eventually, folder):
    path = folder / "later.pem"
    agent = await start_agent(wait=False, trust=BootstrapTrust(path=path))
    await eventually(lambda: "unable to read trust bundle" in agent.problem)
    path.write_bytes(server.ca.bundle().to_pem())
    await agent.until(Phase.READY)


async def test_the_bundle_the_server_gave_beats_the_bootstrap_bundle(server, start_agent, folder):
    agent = await start_agent()
    await agent.stop()
    (folder / "bundle.pem").write_bytes(TestCA("example.org").bundle().to_pem())
    (folder / "data" / "agent-svid.sealed").unlink()
    server.tokens.add("second-token")
    await start_agent(join_token="second-token")


async def test_a_lost_reply_is_asked_for_again_with_the_same_key(server, start_agent, eventually):
    """A server binds a used token to the key, so that the answer that was lost is not lost for good."""
    lost = []

    async def lose(call):
        if not lost:
            request = await call.stream.recv_message()
            lost.append(request)
            raise GRPCError(Status.UNAVAILABLE, "the reply is lost")
        return False

    server.script["AttestAgent"] = lose
    agent = await start_agent()
    key = lost[0].params.params.csr
    assert len(server.attested_keys) == 1
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    first = x509.load_der_x509_csr(key).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert server.attested_keys == [first]
    assert agent.phase is Phase.READY


async def test_the_key_of_a_lost_reply_survives_a_crash(server, start_agent, eventually, folder):
    async def lose(call):
        raise GRPCError(Status.UNAVAILABLE, "the reply is lost")

    server.script["AttestAgent"] = lose
    agent = await start_agent(wait=False)
    await eventually(lambda: "lost" in agent.problem)
    await agent.stop()
    assert (folder / "data" / "agent-pending-key.sealed").exists()
    pending = agent.agent._storage.load_pending_key()
    server.script.clear()
    again = await start_agent()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = pending.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert server.attested_keys == [public]
    assert not (folder / "data" / "agent-pending-key.sealed").exists()
    assert again.phase is Phase.READY


class TestAnswersThatAreRefused:
    """A server, or whoever speaks for it, says what makes no sense: nothing is taken up, and it is tried again."""

    async def refused(self, server, start_agent, eventually, words, **settings):
        agent = await start_agent(wait=False, **settings)
        await eventually(lambda: words in agent.problem, lambda: agent.problem)
        assert agent.phase is Phase.ATTESTING
        return agent

    def answer(self, server, make):
        async def act(call):
            request = await call.stream.recv_message()
            server.tokens.add("good-token")
            await call.stream.send_message(make(request.params.params.csr))
            return True

        server.script["AttestAgent"] = act

    def result(self, svid):
        return agent_pb2.AttestAgentResponse(result=agent_pb2.AttestAgentResponse.Result(svid=svid))

    async def test_an_svid_for_another_key(self, server, start_agent, eventually):
        from icp_agent.keys import generate_key, signing_request

        other = signing_request(generate_key())
        path = "/spire/agent/join_token/good-token"
        self.answer(server, lambda csr: self.result(server.sign(other, path, timedelta(hours=1))))
        await self.refused(server, start_agent, eventually, "does not belong to the certificate")

    async def test_an_svid_that_is_no_agents(self, server, start_agent, eventually):
        self.answer(server, lambda csr: self.result(server.sign(csr, "/web", timedelta(hours=1))))
        await self.refused(server, start_agent, eventually, "is no agent's ID")

    async def test_an_svid_of_another_trust_domain(self, server, start_agent, eventually):
        other = TestCA("other.org")
        self.answer(
            server, lambda csr: self.result(server.sign(csr, "/spire/agent/join_token/x", timedelta(hours=1), other))
        )
        await self.refused(server, start_agent, eventually, "cannot use")

    async def test_an_svid_the_bundle_does_not_know(self, server, start_agent, eventually):
        other = TestCA("example.org")
        self.answer(
            server, lambda csr: self.result(server.sign(csr, "/spire/agent/join_token/x", timedelta(hours=1), other))
        )
        await self.refused(server, start_agent, eventually, "cannot use")

    async def test_svid_and_bundle_both_of_another_trust_domain(self, server, start_agent, eventually):
        """They fit each other, and would make this node a node of somebody else's domain."""
        other = TestCA("other.org")

        async def get(call):
            await call.stream.recv_message()
            bundle = TrustBundle(other.trust_domain, other.bundle().authorities)
            await call.stream.send_message(bundle_to_wire(bundle))
            return True

        server.script["GetBundle"] = get
        self.answer(
            server, lambda csr: self.result(server.sign(csr, "/spire/agent/join_token/x", timedelta(hours=1), other))
        )
        await self.refused(server, start_agent, eventually, "is no agent's ID in example.org")

    async def test_no_certificates(self, server, start_agent, eventually):
        self.answer(server, lambda csr: agent_pb2.AttestAgentResponse(result=agent_pb2.AttestAgentResponse.Result()))
        await self.refused(server, start_agent, eventually, "without certificates")

    async def test_an_empty_answer(self, server, start_agent, eventually):
        self.answer(server, lambda csr: agent_pb2.AttestAgentResponse())
        await self.refused(server, start_agent, eventually, "without certificates")

    async def test_a_challenge_join_tokens_do_not_have(self, server, start_agent, eventually):
        self.answer(server, lambda csr: agent_pb2.AttestAgentResponse(challenge=b"sign this"))
        await self.refused(server, start_agent, eventually, "join tokens have none")

    async def test_an_end_without_an_answer(self, server, start_agent, eventually):
        async def act(call):
            await call.stream.recv_message()
            return True

        server.script["AttestAgent"] = act
        await self.refused(server, start_agent, eventually, "ended the attestation without a result")

    async def test_a_ban(self, server, start_agent, eventually):
        async def act(call):
            raise GRPCError(Status.PERMISSION_DENIED, "failed to attest: agent is banned")

        server.script["AttestAgent"] = act
        agent = await start_agent(wait=False)
        await agent.until(Phase.BANNED)
        server.script.clear()
        await agent.until(Phase.READY)


@pytest.mark.parametrize("name", ["agent-pending-key", "agent-svid", "agent-bundle"])
async def test_a_disk_that_takes_nothing_does_not_end_the_agent(server, start_agent, eventually, folder, caplog, name):
    # A folder with something in it, where the file should be: it can be neither written nor removed.
    agent = await start_agent(wait=False, join_token="", join_token_file=folder / "token")
    await agent.until(Phase.ATTESTING)
    (folder / "data" / f"{name}.sealed" / "in the way").mkdir(parents=True)
    (folder / "token").write_text("good-token")
    if name == "agent-pending-key":
        # Neither can it be read: the agent says so for as long as it is there, and goes on trying.
        await eventually(lambda: "Is a directory" in agent.problem, lambda: agent.problem)
        (folder / "data" / f"{name}.sealed" / "in the way").rmdir()
        (folder / "data" / f"{name}.sealed").rmdir()
    await agent.until(Phase.READY)
    if name != "agent-pending-key":
        assert "Unable to keep the agent's state on disk" in caplog.text
