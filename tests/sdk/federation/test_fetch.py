"""One fetch, by both profiles, from our own server: who is believed, and what is taken."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from authsec_sdk.errors import ConfigurationError, InvalidBundleError, PeerNotAuthorizedError, UnavailableError
from authsec_sdk.federation import BundleEndpoint, BundleEndpointError, BundleServer, fetch_bundle, wait_bundle
from authsec_sdk.spiffe import BundleSet, TrustBundle, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError, mtls_server_context, tls_server_context

pytestmark = pytest.mark.anyio  # on asyncio and trio
Make = Callable[..., Any]


class TestBothProfilesFromOurServer:
    async def test_https_web(self, serving: Make, web: Any, publisher: Make) -> None:
        ours = publisher(sequence_number=7, refresh_hint=timedelta(seconds=90))
        with serving(BundleServer(ours.bundle), web.server()) as url:
            assert await fetch_bundle(BundleEndpoint.web("b.test", url, ca_file=web.ca_file)) == ours.bundle()

    async def test_https_spiffe(self, serving: Make, publisher: Make) -> None:
        ours = publisher(sequence_number=7)
        with serving(BundleServer(ours.bundle), ours.tls()) as url:
            endpoint = BundleEndpoint.spiffe("b.test", url, ours.server_id, bundle=ours.ca.bundle())
            fetched = await fetch_bundle(endpoint)
        assert fetched == replace(ours.bundle(), refresh_hint=timedelta(minutes=5))

    def test_in_a_thread(self, serving: Make, publisher: Make) -> None:
        ours = publisher()
        with serving(BundleServer(ours.bundle), ours.tls()) as url:
            endpoint = BundleEndpoint.spiffe("b.test", url, ours.server_id, bundle=ours.bundle())
            assert wait_bundle(endpoint).x509_bundle() == ours.ca.bundle()

    async def test_keys_of_tokens_too(self, serving: Make, publisher: Make) -> None:
        ca = TestCA("b.test")
        ours = publisher(jwt_authorities=ca.tokens.jwt_bundle().authorities)
        with serving(BundleServer(ours.bundle), ours.tls()) as url:
            endpoint = BundleEndpoint.spiffe("b.test", url, ours.server_id, bundle=ours.bundle())
            assert (await fetch_bundle(endpoint)).jwt_bundle() == ca.tokens.jwt_bundle()


class TestWhoIsBelieved:
    async def refused(self, site: Make, publisher: Make, context: ssl.SSLContext, **endpoint: Any) -> BaseException:
        ours = publisher()
        here = site(context, ours.answer)
        options = {"endpoint_id": ours.server_id, "bundle": ours.ca.bundle(), **endpoint}
        with pytest.raises(PeerVerificationError) as caught:
            await fetch_bundle(BundleEndpoint.spiffe("b.test", here.url, **options))
        assert here.paths == []  # not a byte of the request was sent
        return caught.value.reason

    async def test_another_id_of_the_domain(self, site: Make, publisher: Make) -> None:
        ours = publisher()
        here = site(ours.tls(), ours.answer)
        endpoint = BundleEndpoint.spiffe("b.test", here.url, "spiffe://b.test/other", bundle=ours.ca.bundle())
        with pytest.raises(PeerVerificationError) as caught:
            await fetch_bundle(endpoint)
        assert isinstance(caught.value.reason, PeerNotAuthorizedError)
        assert here.paths == []

    async def test_a_stranger_with_the_right_id(self, site: Make, publisher: Make) -> None:
        """Another authority signed this very ID."""
        stranger = publisher()
        await self.refused(site, publisher, stranger.tls())

    async def test_an_expired_svid(self, site: Make, publisher: Make) -> None:
        ca = TestCA("b.test")
        now = datetime.now(UTC)
        old = ca.svid("/bundle-server", not_before=now - timedelta(hours=2), not_after=now - timedelta(hours=1))
        holder = X509ContextHolder(X509Context((old,), BundleSet.of(ca.bundle())))
        await self.refused(site, publisher, tls_server_context(holder), bundle=ca.bundle())

    async def test_a_web_certificate_where_an_svid_is_due(self, site: Make, web: Any, publisher: Make) -> None:
        await self.refused(site, publisher, web.server())

    async def test_an_svid_where_a_web_certificate_is_due(self, site: Make, web: Any, publisher: Make) -> None:
        ours = publisher()
        web.server()
        here = site(ours.tls(), ours.answer)
        with pytest.raises(BundleEndpointError, match="https_spiffe"):
            await fetch_bundle(BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file))
        assert here.paths == []

    async def test_no_certificate_of_ours_is_offered(self, site: Make, publisher: Make) -> None:
        """5.2.1.3, 5.2.2.3: servers must not ask for one; who does gets none."""
        ours = publisher()
        here = site(mtls_server_context(ours.holder, lambda _: None), ours.answer)
        with pytest.raises(UnavailableError):
            await fetch_bundle(BundleEndpoint.spiffe("b.test", here.url, ours.server_id, bundle=ours.ca.bundle()))
        assert here.paths == []

    async def test_each_hop_of_a_redirect_proves_itself(self, site: Make, publisher: Make, http: Any) -> None:
        ours, stranger = publisher(), publisher()
        elsewhere = site(stranger.tls(), stranger.answer)
        answer = http.always(http.reply(b"", "302 Found", f"Location: {elsewhere.url}"))
        here = site(ours.tls(), answer)
        with pytest.raises(PeerVerificationError):
            await fetch_bundle(BundleEndpoint.spiffe("b.test", here.url, ours.server_id, bundle=ours.ca.bundle()))
        assert (here.paths, elsewhere.paths) == (["/bundle"], [])

    async def test_a_redirect_to_another_address_of_the_same_server(
        self, site: Make, publisher: Make, http: Any
    ) -> None:
        ours = publisher()
        elsewhere = site(ours.tls(), ours.answer)
        here = site(ours.tls(), http.always(http.reply(b"", "307 Go", f"Location: {elsewhere.url}")))
        endpoint = BundleEndpoint.spiffe("b.test", here.url, ours.server_id, bundle=ours.ca.bundle())
        assert await fetch_bundle(endpoint) == ours.bundle()

    async def test_authorities_that_cannot_be_read(self, web: Any, tmp_path: Any) -> None:
        for name in ("missing.pem", "web.key"):
            (tmp_path / "web.key").write_text("no certificate")
            with pytest.raises(ConfigurationError, match="cannot be read"):
                await fetch_bundle(BundleEndpoint.web("b.test", "https://127.0.0.1:1/", ca_file=tmp_path / name))

    async def test_a_server_that_nothing_proves(self) -> None:
        with pytest.raises(ConfigurationError, match="nothing proves"):
            await fetch_bundle(BundleEndpoint.spiffe("b.test", "https://127.0.0.1:1/", "spiffe://b.test/server"))


class TestWhatIsTaken:
    async def fetch(self, site: Make, web: Any, http: Any, body: bytes, **endpoint: Any) -> TrustBundle:
        here = site(web.server(), http.always(http.reply(body)))
        return await fetch_bundle(BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file, **endpoint))

    async def test_an_authority_of_another_domain(self, site: Make, web: Any, http: Any, publisher: Make) -> None:
        other = publisher("a.test")
        with pytest.raises(InvalidBundleError, match=r"names the trust domain a\.test"):
            await self.fetch(site, web, http, other.document())

    @pytest.mark.parametrize("value", [b"junk", b"0\x02\xa8\x00"])
    async def test_an_authority_whose_names_cannot_be_read(
        self, site: Make, web: Any, publisher: Make, value: bytes
    ) -> None:
        key, when = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        odd = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([]))
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(when)
            .not_valid_after(when + timedelta(hours=1))
            .add_extension(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value), critical=False)
            .sign(key, hashes.SHA256())
        )
        here = site(web.server(), publisher(x509_authorities=(odd,)).answer)
        with pytest.raises(InvalidBundleError):
            await fetch_bundle(BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file))

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{", b'{"keys": 1}', b"\xff", b'{"keys": [], "keys": []}'])
    async def test_malformed(self, site: Make, web: Any, http: Any, body: bytes) -> None:
        with pytest.raises(InvalidBundleError):
            await self.fetch(site, web, http, body)

    async def test_a_bundle_cut_short(self, site: Make, web: Any, publisher: Make) -> None:
        """Without a length only the document itself tells that something is missing."""
        body = publisher().document()
        here = site(web.server(), lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body[:-40]))
        with pytest.raises(InvalidBundleError):
            await fetch_bundle(BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file))

    async def test_nobody_trusted_is_a_bundle(self, site: Make, web: Any, http: Any) -> None:
        assert (await self.fetch(site, web, http, b'{"keys": []}')).x509_authorities == ()

    async def test_nobody_trusted_would_lock_us_out_where_the_endpoint_serves_itself(
        self, site: Make, publisher: Make, http: Any
    ) -> None:
        ours = publisher()
        here = site(ours.tls(), http.always(http.reply(b'{"keys": []}')))
        with pytest.raises(InvalidBundleError, match="nothing would ever change again"):
            await fetch_bundle(BundleEndpoint.spiffe("b.test", here.url, ours.server_id, bundle=ours.ca.bundle()))

    async def test_too_large(self, site: Make, web: Any, http: Any) -> None:
        with pytest.raises(BundleEndpointError, match="bytes"):
            await self.fetch(site, web, http, b" " * (1024 * 1024 + 1))


class TestTime:
    async def test_the_limit_is_the_callers(self, site: Make, web: Any) -> None:
        here = site(web.server(), lambda *_: here.pause(30))
        with pytest.raises(UnavailableError, match="takes more than"):
            await fetch_bundle(BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file), timeout=0.3)

    async def test_who_leaves_early_leaves_nothing_behind(self, site: Make, web: Any, eventually: Any) -> None:
        ended = []

        def answer(connection: ssl.SSLSocket, _: str) -> None:
            connection.settimeout(30)
            ended.append(connection.recv(1))  # the end, when the client hangs up

        here = site(web.server(), answer)
        with anyio.move_on_after(30) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fetch_bundle, BundleEndpoint.web("b.test", here.url, ca_file=web.ca_file))
                await eventually(lambda: here.paths)
                tasks.cancel_scope.cancel()
        assert not scope.cancelled_caught
        await eventually(lambda: ended or not any(thread.is_alive() for thread in here._threads))


def test_a_first_bundle_of_another_domain_is_refused() -> None:
    with pytest.raises(InvalidBundleError, match="not by that of another"):
        BundleEndpoint.spiffe("b.test", "https://x/", "spiffe://b.test/server", bundle=TestCA("a.test").bundle())


def test_an_empty_first_bundle_is_refused() -> None:
    empty = X509Bundle(TestCA("b.test").trust_domain)
    with pytest.raises(InvalidBundleError, match="empty"):
        BundleEndpoint.spiffe("b.test", "https://x/", "spiffe://b.test/server", bundle=empty)
