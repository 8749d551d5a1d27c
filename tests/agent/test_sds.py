"""SDS on a real socket: streams that both sides speak on, who gets what, and how they end."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_sdk.proto.envoy import core_pb2, discovery_pb2, sds_grpc, tls_pb2
from authsec_sdk.rpc import Channel, GRPCError, Server, ServerLimits, Status
from authsec_sdk.spiffe import X509SVID, X509Bundle
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.testing import TestCA
from icp_agent.api.callers import identify
from icp_agent.api.sds import SecretDiscovery
from icp_agent.api.secret_wire import read_delta, read_whole, secret_message
from icp_agent.domain.agent_state import DenialReason, Phase
from icp_agent.domain.secret_streams import MAXIMUM_NAMES
from icp_agent.domain.secrets import CertificateSecret, SecretNames, SecretSettings, TrustSecret
from tests.agent.relay import relayed_from_a_dead_process

pytestmark = pytest.mark.anyio

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
NOT_YOURS = "workload is not authorized for the requested identities"
GONE = (Status.UNAUTHENTICATED, "could not verify existence of the original caller")
WEB = "spiffe://example.org/web"


def node(minor: int = 40, **metadata) -> core_pb2.Node:
    made = core_pb2.Node(id="test")
    version = made.user_agent_build_version.version
    version.major_number, version.minor_number = 1, minor
    made.metadata.update(metadata)
    return made


def whole(*names: str, **fields) -> discovery_pb2.DiscoveryRequest:
    return discovery_pb2.DiscoveryRequest(resource_names=names, type_url=SECRET, **fields)


def delta(*names: str, **fields) -> discovery_pb2.DeltaDiscoveryRequest:
    return discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=names, type_url=SECRET, **fields)


def secrets_of(response) -> dict[str, tls_pb2.Secret]:
    found = {}
    for resource in response.resources:
        secret = tls_pb2.Secret()
        packed = resource.resource if isinstance(resource, discovery_pb2.Resource) else resource
        assert packed.Unpack(secret)
        found[secret.name] = secret
    return found


class Proxy:
    """One stream of a proxy."""

    def __init__(self, stream) -> None:
        self._stream = stream
        self.nonce = ""

    async def ask(self, request, *, end: bool = False) -> None:
        await self._stream.send_message(request, end=end)

    async def told(self):
        async with asyncio.timeout(30):
            response = await self._stream.recv_message()
            if response is None:
                await self._stream.recv_trailing_metadata()
                pytest.fail("the stream ended with OK")
        self.nonce = response.nonce
        return response

    async def refused(self) -> tuple[Status, str]:
        with pytest.raises(GRPCError) as caught:
            while True:
                await self.told()
        return caught.value.status, caught.value.message

    async def silent(self) -> None:
        waiting = asyncio.ensure_future(self._stream.recv_message())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert not done, done


@asynccontextmanager
async def proxy(agent, method: str = "StreamSecrets", *, path: Path | None = None):
    async with Channel.unix(str(path), max_backoff=0) if path else agent.channel() as channel:
        async with getattr(sds_grpc.SecretDiscoveryServiceStub(channel), method).open(timeout=60) as stream:
            yield Proxy(stream)


async def fetch(agent, *names: str, **fields):
    async with agent.channel() as channel:
        return await sds_grpc.SecretDiscoveryServiceStub(channel).FetchSecrets(whole(*names, **fields), timeout=60)


@pytest.fixture
async def agent(server, start_agent, entry):
    server.entries = {"a": entry("a")}
    return await start_agent()


class TestSecrets:
    async def test_a_certificate_is_an_svid_in_pem(self, server, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole("default", node=node()))
            response = await stream.told()
        assert (response.version_info, response.type_url) == ("1", SECRET)
        assert len(response.nonce) == 8
        assert int(response.nonce, 16) >= 0
        certificate = secrets_of(response)["default"].tls_certificate
        assert certificate.private_key.inline_bytes.startswith(b"-----BEGIN PRIVATE KEY-----")
        svid = X509SVID.parse_pem(certificate.certificate_chain.inline_bytes, certificate.private_key.inline_bytes)
        assert str(svid.id) == WEB

    async def test_all_bundles_are_kept_apart_and_sorted(self, server, start_agent, entry):
        for name in ("zzz.org", "aaa.org"):
            server.federated[name] = TestCA(name).bundle()
        server.entries = {"a": entry("a", federates_with=["zzz.org", "aaa.org"])}
        agent = await start_agent()
        (secret,) = secrets_of(await fetch(agent, "ALL", node=node())).values()
        validator = secret.validation_context.custom_validator_config
        assert validator.name == "envoy.tls.cert_validator.spiffe"
        assert validator.typed_config.type_url.endswith("transport_sockets.tls.v3.SPIFFECertValidatorConfig")
        config = tls_pb2.SPIFFECertValidatorConfig()
        assert validator.typed_config.Unpack(config)
        bundles = {domain.name: domain.trust_bundle.inline_bytes for domain in config.trust_domains}
        assert list(bundles) == ["aaa.org", "example.org", "zzz.org"]
        own = X509Bundle.parse_pem(server.ca.trust_domain, bundles["example.org"])
        assert own == server.ca.bundle()

    async def test_nothing_named_is_everything(self, server, start_agent, entry):
        server.federated["partner.org"] = TestCA("partner.org").bundle()
        server.entries = {"a": entry("a", federates_with=["partner.org"]), "b": entry("b", "/db")}
        agent = await start_agent()
        expected = {WEB, "spiffe://example.org/db", "spiffe://example.org", "spiffe://partner.org"}
        assert secrets_of(await fetch(agent)).keys() == expected
        async with proxy(agent) as stream:
            await stream.ask(whole())
            assert secrets_of(await stream.told()).keys() == expected

    async def test_renamed_and_without_the_validator(self, server, start_agent, entry):
        server.entries = {"a": entry("a")}
        sds = SecretSettings(SecretNames("svid", "root", "every"), disable_spiffe_cert_validation=True)
        agent = await start_agent(sds=sds)
        found = secrets_of(await fetch(agent, "svid", "root", node=node()))
        assert found["svid"].HasField("tls_certificate")
        assert found["root"].validation_context.trusted_ca.inline_bytes == server.ca.bundle().to_pem()
        for names, status in ((["every"], Status.INTERNAL), (["default"], Status.INVALID_ARGUMENT)):
            with pytest.raises(GRPCError) as caught:
                await fetch(agent, *names, node=node())
            assert caught.value.status is status

    async def test_the_security_header_is_not_asked_for(self, agent):
        """Envoy cannot send it, and upstream does not ask for it here."""
        assert secrets_of(await fetch(agent, "ROOTCA")).keys() == {"ROOTCA"}


class TestStreams:
    async def test_rotation_acknowledgement_and_refusal(self, server, agent, entry):
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            first = await stream.told()
            await stream.ask(whole("default", version_info="1", response_nonce=first.nonce))
            await stream.silent()
            server.entries = {"a": entry("a", revision_number=1)}
            second = await stream.told()
            assert second.nonce != first.nonce
            assert int(second.version_info) > int(first.version_info)
            await stream.ask(whole("default", response_nonce=second.nonce, error_detail={"message": "I will not"}))
            await stream.silent()

    async def test_refusals_are_logged_in_short_and_not_for_ever(self, agent, caplog, eventually):
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            await stream.told()
            for _ in range(100):
                detail = {"message": "because\n" * 1000}
                await stream.ask(whole("default", response_nonce=stream.nonce, error_detail=detail))
            await stream.ask(whole("default", "ROOTCA", response_nonce=stream.nonce))
            await stream.told()
        lines = [record.getMessage() for record in caplog.records if "Envoy refused" in record.getMessage()]
        assert 1 <= len(lines) < 60
        assert all("because" in line and "\n" not in line and len(line) < 1000 for line in lines)

    async def test_stale_requests_are_ignored(self, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            await stream.told()
            await stream.ask(whole("nonsense", response_nonce="00000000"))
            await stream.silent()
            await stream.ask(whole("ROOTCA", response_nonce=stream.nonce))
            assert secrets_of(await stream.told()).keys() == {"ROOTCA"}

    async def test_names_change_from_bundles_to_certificates_and_back(self, server, agent):
        async with proxy(agent) as stream:
            for names in (["ROOTCA"], ["ROOTCA", "default"], ["default"], ["ALL"], [WEB]):
                await stream.ask(whole(*names, response_nonce=stream.nonce))
                assert secrets_of(await stream.told()).keys() == set(names)

    async def test_bundles_are_no_reason_to_wait_for_svids(self, server, start_agent, entry):
        """Nor to end when those cannot be signed."""

        async def fail(call):
            raise GRPCError(Status.UNAVAILABLE, "not now")

        server.entries = {"a": entry("a")}
        server.script["BatchNewX509SVID"] = fail
        agent = await start_agent(wait=False)
        async with proxy(agent) as stream:
            await stream.ask(whole("ROOTCA"))
            assert secrets_of(await stream.told()).keys() == {"ROOTCA"}
            await stream.ask(whole("default", response_nonce=stream.nonce))
            assert (await stream.refused())[0] is Status.UNAVAILABLE

    async def test_an_svid_that_is_being_signed_is_waited_for(self, server, start_agent, entry):
        signing = asyncio.Event()

        async def wait(call):
            await signing.wait()
            return False

        server.entries = {"a": entry("a")}
        server.script["BatchNewX509SVID"] = wait
        agent = await start_agent(wait=False)
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            await stream.silent()
            signing.set()
            assert secrets_of(await stream.told()).keys() == {"default"}

    async def test_one_who_half_closes_has_his_end(self, agent):
        async with agent.channel() as channel:
            stub = sds_grpc.SecretDiscoveryServiceStub(channel)
            async with stub.StreamSecrets.open(timeout=60) as stream:
                await stream.send_message(whole("default"))
                assert await stream.recv_message() is not None
                await stream.end()
                assert await stream.recv_message() is None
            async with stub.DeltaSecrets.open(timeout=60) as stream:
                await stream.send_request()
                await stream.end()
                assert await stream.recv_message() is None

    @pytest.mark.parametrize("method", ["StreamSecrets", "DeltaSecrets"])
    async def test_the_first_request_has_to_come_soon_and_no_other_ever(self, agent, folder, entry, method):
        """A proxy says nothing for as long as nothing changes."""
        inner = agent.agent
        service = SecretDiscovery(inner.identities, inner.board, inner._attestors, SecretSettings())
        impatient = Server((service,), limits=ServerLimits.local(receive_timeout=0.3), on_accept=identify)
        await impatient.listen_unix(folder / "impatient")
        request = whole("default") if method == "StreamSecrets" else delta("default")
        async with Channel.unix(str(folder / "impatient"), max_backoff=0) as channel:
            call = getattr(sds_grpc.SecretDiscoveryServiceStub(channel), method)
            async with call.open(timeout=60) as silent, call.open(timeout=60) as stream:
                await silent.send_request()
                await stream.send_message(request)
                await Proxy(stream).told()
                assert (await Proxy(silent).refused())[0] is Status.DEADLINE_EXCEEDED
                await Proxy(stream).silent()
                await stream.cancel()
        await impatient.close()


class TestDelta:
    async def test_only_what_changed(self, server, agent):
        async with proxy(agent, "DeltaSecrets") as stream:
            await stream.ask(delta("default", "ROOTCA", node=node()))
            first = await stream.told()
            assert secrets_of(first).keys() == {"default", "ROOTCA"}
            assert first.system_version_info == "1"
            assert all(len(resource.version) == 16 for resource in first.resources)
            await stream.ask(delta(response_nonce=first.nonce))
            await stream.silent()
            server.rotate()
            changed: set[str] = set()
            while "ROOTCA" not in changed:
                changed |= secrets_of(await stream.told()).keys()
        versions = {resource.name: resource.version for resource in first.resources}
        async with proxy(agent, "DeltaSecrets") as stream:
            await stream.ask(delta("default", "ROOTCA", initial_resource_versions=versions))
            assert "ROOTCA" in secrets_of(await stream.told()), "its version is an old one by now"

    async def test_who_comes_back_with_the_newest_is_told_nothing(self, agent):
        async with proxy(agent, "DeltaSecrets") as stream:
            await stream.ask(delta("default", "ROOTCA", node=node()))
            versions = {resource.name: resource.version for resource in (await stream.told()).resources}
        async with proxy(agent, "DeltaSecrets") as stream:
            await stream.ask(delta("default", "ROOTCA", node=node(), initial_resource_versions=versions))
            await stream.silent()

    async def test_what_is_over_is_removed_and_comes_back(self, server, agent, entry):
        async with proxy(agent, "DeltaSecrets") as stream:
            await stream.ask(delta(WEB, "ROOTCA"))
            await stream.told()
            server.entries = {}
            gone = await stream.told()
            assert (list(gone.removed_resources), list(gone.resources)) == ([WEB], [])
            server.entries = {"b": entry("b")}
            assert secrets_of(await stream.told()).keys() == {WEB}

    async def test_unknown_names(self, agent):
        async with proxy(agent, "DeltaSecrets") as stream:
            await stream.ask(delta("other"))
            assert await stream.refused() == (Status.INVALID_ARGUMENT, f'{NOT_YOURS} ["other"]')


class TestWhoGetsWhat:
    async def test_one_without_an_entry_gets_bundles_alone(self, server, start_agent):
        agent = await start_agent()
        for names in (["ROOTCA"], ["ALL"], ["spiffe://example.org"]):
            assert secrets_of(await fetch(agent, *names)).keys() == set(names)
        assert secrets_of(await fetch(agent)).keys() == {"spiffe://example.org"}
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            assert await stream.refused() == (Status.INVALID_ARGUMENT, f'{NOT_YOURS} ["default"]')

    async def test_an_entry_that_ends_takes_the_stream_along(self, server, agent):
        async with proxy(agent) as stream, proxy(agent) as bundles:
            await stream.ask(whole("default"))
            await stream.told()
            await bundles.ask(whole("ROOTCA"))
            await bundles.told()
            server.entries = {}
            assert (await stream.refused())[0] is Status.INVALID_ARGUMENT
            await bundles.silent()

    async def test_selectors_that_change_count_at_the_next_attestation(self, server, start_agent, entry):
        attestor = Attestor("web")
        server.entries = {"a": entry("a", "/web", "unix:role:web"), "b": entry("b", "/db", "unix:role:db")}
        agent = await start_agent(options={"attestors": [attestor], "reattest_seconds": 0.3})
        async with proxy(agent) as stream, proxy(agent) as other:
            await stream.ask(whole("default"))
            await other.ask(whole(WEB))
            await other.told()
            assert self.ids(await stream.told()) == [WEB]
            attestor.role = "db"
            assert self.ids(await stream.told()) == ["spiffe://example.org/db"]
            assert (await other.refused())[0] is Status.INVALID_ARGUMENT

    @staticmethod
    def ids(response) -> list[str]:
        parts = [secret.tls_certificate for secret in secrets_of(response).values()]
        return [
            str(X509SVID.parse_pem(part.certificate_chain.inline_bytes, part.private_key.inline_bytes).id)
            for part in parts
        ]

    async def test_attestation_that_fails_is_unavailable(self, start_agent):
        attestor = Attestor("web")
        attestor.error = OSError("no")
        agent = await start_agent(options={"attestors": [attestor]})
        with pytest.raises(GRPCError) as caught:
            await fetch(agent, "ROOTCA")
        assert (caught.value.status, caught.value.message) == (Status.UNAVAILABLE, "workload attestation failed")

    async def test_a_ban_ends_streams_and_withdraws_everything(self, server, agent):
        async with proxy(agent) as stream, proxy(agent) as bundles:
            await stream.ask(whole("default"))
            await stream.told()
            await bundles.ask(whole("ROOTCA"))
            await bundles.told()
            server.denial = DenialReason.AGENT_BANNED
            for each in (stream, bundles):
                assert await each.refused() == (Status.PERMISSION_DENIED, "no identity issued")

    async def test_a_server_that_is_away_changes_nothing(self, server, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            await stream.told()
            await server.stop()
            await agent.until(Phase.SERVER_AWAY)
            await stream.silent()
        assert secrets_of(await fetch(agent, "default")).keys() == {"default"}

    async def test_an_svid_that_expired_is_not_given(self, server, start_agent, entry):
        server.entries = {"a": entry("a")}
        server.svid_ttl = timedelta(seconds=3)
        agent = await start_agent()
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            await stream.told()
            await server.stop()
            assert (await stream.refused())[0] is Status.UNAVAILABLE
        assert secrets_of(await fetch(agent, "ROOTCA")).keys() == {"ROOTCA"}

    async def test_streams_end_with_unavailable_when_the_agent_stops(self, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole("default"))
            await stream.told()
            stopped = asyncio.ensure_future(agent.stop())
            assert (await stream.refused())[0] is Status.UNAVAILABLE
            assert await stopped == 0


class Attestor:
    """Says which role a caller has."""

    name = "unix"

    def __init__(self, role: str) -> None:
        self.role = role
        self.error: Exception | None = None

    async def attest(self, peer: object) -> frozenset[Selector]:
        if self.error is not None:
            raise self.error
        return frozenset({Selector("unix", f"role:{self.role}")})


class TestCallersThatAreGone:
    """The process that connected hands its socket to another one and ends: the other must not be served as it."""

    @pytest.mark.parametrize("method", ["StreamSecrets", "DeltaSecrets"])
    async def test_from_the_beginning(self, agent, folder, method):
        async with relayed_from_a_dead_process(agent.config.socket_path, folder / "relay") as path:
            async with proxy(agent, method, path=path) as stream:
                await stream.ask(whole("ROOTCA") if method == "StreamSecrets" else delta("ROOTCA"))
                assert await stream.refused() == GONE

    @pytest.mark.parametrize("change", ["update", "request"])
    async def test_in_the_middle(self, server, agent, folder, entry, change):
        died = asyncio.Event()
        async with relayed_from_a_dead_process(agent.config.socket_path, folder / "relay", dies=died) as path:
            async with proxy(agent, path=path) as stream:
                await stream.ask(whole("default"))
                await stream.told()
                died.set()
                await asyncio.sleep(0.2)
                if change == "update":
                    server.entries = {"a": entry("a", revision_number=1)}
                else:
                    await stream.ask(whole(WEB, response_nonce=stream.nonce))
                with pytest.raises(GRPCError) as caught:
                    await stream.told()  # the very next message must not be told any more
        assert (caught.value.status, caught.value.message) == GONE


class TestWhatIsServed:
    async def test_without_sds(self, start_agent):
        agent = await start_agent(sds=None)
        with pytest.raises(GRPCError) as caught:
            await fetch(agent, "ROOTCA")
        assert caught.value.status is Status.UNIMPLEMENTED

    async def test_without_the_workload_api(self, server, start_agent, entry, workload):
        server.entries = {"a": entry("a")}
        agent = await start_agent(workload_api=False)
        assert secrets_of(await fetch(agent, "default")).keys() == {"default"}
        assert (await workload(agent).refusal()).status is Status.UNIMPLEMENTED


class TestBounds:
    async def test_too_many_names(self, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole(*map(str, range(MAXIMUM_NAMES + 1))))
            assert (await stream.refused())[0] is Status.RESOURCE_EXHAUSTED
        async with proxy(agent, "DeltaSecrets") as stream:
            for start in range(0, MAXIMUM_NAMES + 100, 100):
                await stream.ask(delta(*(f"{start}-{n}" for n in range(100))))
            assert (await stream.refused())[0] in (Status.RESOURCE_EXHAUSTED, Status.INVALID_ARGUMENT)

    async def test_a_message_too_large(self, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole("x" * (1024 * 1024 + 1)))
            assert (await stream.refused())[0] is Status.RESOURCE_EXHAUSTED

    async def test_a_long_name_makes_no_long_refusal(self, agent):
        async with proxy(agent) as stream:
            await stream.ask(whole("x" * 100_000))
            status, message = await stream.refused()
        assert status is Status.INVALID_ARGUMENT
        assert len(message) < 2000

    async def test_rubbish_in_place_of_a_request(self, agent):
        async with Channel.unix(str(agent.config.socket_path), max_backoff=0) as channel:
            stub = sds_grpc.SecretDiscoveryServiceStub(channel)
            async with stub.StreamSecrets.open(timeout=60) as stream:
                stream._send_type = core_pb2.DataSource
                await stream.send_message(core_pb2.DataSource(inline_bytes=b"\xff\xff"))
                assert (await Proxy(stream).refused())[0] is Status.INTERNAL

    async def test_proxies_that_vanish_leave_nothing_behind(self, agent, eventually):
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with proxy(agent) as stream:
                await stream.ask(whole("default"))
                await stream.told()
        await eventually(lambda: len(asyncio.all_tasks()) <= before, lambda: str(asyncio.all_tasks()))
        assert not agent.agent.identities._subscribed


MESSAGES = st.builds(
    lambda names, nonce, versions: discovery_pb2.DeltaDiscoveryRequest(
        resource_names_subscribe=names, response_nonce=nonce, initial_resource_versions=versions
    ),
    st.lists(st.text(max_size=4), max_size=4),
    st.text(max_size=4),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)


class TestWire:
    @given(MESSAGES)
    def test_requests_mean_what_they_say(self, message):
        request = read_delta(message)
        assert list(request.subscribe) == list(message.resource_names_subscribe)
        assert (request.nonce, dict(request.known or {})) == (
            message.response_nonce,
            dict(message.initial_resource_versions),
        )
        assert (request.refused, request.apart) == (None, None)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_whatever_can_be_parsed_can_be_read(self, data):
        from google.protobuf.message import DecodeError

        for cls, read in (
            (discovery_pb2.DiscoveryRequest, read_whole),
            (discovery_pb2.DeltaDiscoveryRequest, read_delta),
        ):
            try:
                read(cls.FromString(data))
            except DecodeError:
                continue

    @pytest.mark.parametrize(
        ("who", "apart"),
        [
            (node(18), True),
            (node(17), False),
            (core_pb2.Node(), True),
            (core_pb2.Node(user_agent_version="1.10.0"), True),
            (node(disable_spiffe_cert_validation=True), False),
            (node(disable_spiffe_cert_validation="True"), False),
            (node(disable_spiffe_cert_validation=False), True),
            (node(disable_spiffe_cert_validation="no"), True),
            (node(disable_spiffe_cert_validation=1), True),
            (node(disable_spiffe_cert_validation=None), True),
            (node(other=True), True),
            (None, None),
        ],
    )
    def test_who_has_the_validator(self, who, apart):
        assert read_whole(whole("x", node=who)).apart is apart
        assert read_delta(delta("x", node=who)).apart is apart

    def test_secrets_come_back_as_they_were(self):
        ca, partner = TestCA("example.org"), TestCA("partner.org")
        svid = ca.intermediate().svid("/web")
        certificate = secret_message(CertificateSecret("x", svid)).tls_certificate
        again = X509SVID.parse_pem(certificate.certificate_chain.inline_bytes, certificate.private_key.inline_bytes)
        assert again == svid
        assert len(again.certificates) == 2
        with pytest.raises(ValueError, match="unpack"):
            secret_message(TrustSecret("x", (ca.bundle(), partner.bundle()), apart=False))
