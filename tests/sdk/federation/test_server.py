"""Serving a bundle: what is answered to whom, in real servers and mounted, and numbers that only grow."""

import http.client
import json
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from authsec_sdk.errors import CallerError, ConfigurationError, NotReadyError
from authsec_sdk.federation import BundleServer, own_bundle
from authsec_sdk.federation.sequence import Numbered, Numbering, contents_digest, next_number
from authsec_sdk.spiffe import BundleSet, TrustBundle, X509Context, X509ContextHolder, parse_bundle_document
from authsec_sdk.testing import TestCA

pytestmark = pytest.mark.anyio
Make = Callable[..., Any]
CA = TestCA("b.test")
BUNDLE = TrustBundle(CA.trust_domain, CA.bundle().authorities, CA.tokens.jwt_bundle().authorities)


async def ask(
    app: Any, method: str = "GET", path: str = "/", headers: Any = (), **scope: Any
) -> tuple[int, Any, bytes]:
    """One request, as an ASGI server makes it: status, headers, body."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": list(headers), **scope}, receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


async def served(app: Any) -> TrustBundle:
    status, _, body = await ask(app)
    assert status == 200
    return parse_bundle_document(CA.trust_domain, body)


class TestAnswers:
    async def test_the_document(self) -> None:
        status, headers, body = await ask(BundleServer(lambda: BUNDLE, refresh_hint=timedelta(seconds=90)))
        assert (status, headers[b"content-type"], headers[b"cache-control"]) == (200, b"application/json", b"no-cache")
        bundle = parse_bundle_document(CA.trust_domain, body)
        assert bundle == replace(BUNDLE, sequence_number=bundle.sequence_number, refresh_hint=timedelta(seconds=90))
        assert abs((bundle.sequence_number or 0) - datetime.now(UTC).timestamp()) < 60

    async def test_what_the_bundle_says_itself_stands(self) -> None:
        own = replace(BUNDLE, sequence_number=3, refresh_hint=timedelta(minutes=1))
        assert await served(BundleServer(lambda: own)) == own

    async def test_nothing_private(self) -> None:
        _, _, body = await ask(BundleServer(lambda: BUNDLE))
        members = {name for key in json.loads(body)["keys"] for name in key}
        assert members == {"use", "kty", "crv", "x", "y", "x5c", "kid"}
        assert b"PRIVATE" not in body

    async def test_head(self) -> None:
        app = BundleServer(lambda: BUNDLE)
        _, got, body = await ask(app)
        status, headers, nothing = await ask(app, "HEAD")
        assert (status, headers, nothing) == (200, got, b"")
        assert int(headers[b"content-length"]) == len(body)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "TRACE"])
    async def test_other_methods(self, method: str) -> None:
        status, headers, body = await ask(BundleServer(lambda: BUNDLE), method)
        assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
        assert headers[b"content-type"] == b"application/problem+json"
        assert json.loads(body) == {"type": "about:blank", "title": "Method Not Allowed", "status": 405}

    @pytest.mark.parametrize("path", ["/x", "/bundle/", "/bundle.json", "//bundle", "/bundle/../bundle", "", "/"])
    async def test_other_paths(self, path: str) -> None:
        status, headers, body = await ask(BundleServer(lambda: BUNDLE, path="/bundle"), "GET", path)
        assert (status, headers[b"content-type"]) == (404, b"application/problem+json")
        assert json.loads(body)["status"] == 404

    async def test_not_yet(self) -> None:
        holder = X509ContextHolder()
        app = BundleServer(own_bundle("b.test", holder))
        status, headers, body = await ask(app)
        assert (status, headers[b"retry-after"], json.loads(body)["status"]) == (503, b"5", 503)
        holder.publish(X509Context((), BundleSet.of(TestCA("a.test").bundle())))
        status, _, body = await ask(app)
        assert (status, b"a.test" in body) == (503, False)  # what is wrong is for the log
        holder.publish(X509Context((), BundleSet.of(CA.bundle())))
        assert (await served(app)).x509_bundle() == CA.bundle()

    async def test_half_a_bundle_is_not_served(self) -> None:
        class NotYet:
            @property
            def jwt_bundles(self) -> Any:
                raise NotReadyError("no JWT bundles yet")

        holder = X509ContextHolder(X509Context((), BundleSet.of(CA.bundle())))
        assert (await ask(BundleServer(own_bundle("b.test", holder, NotYet()))))[0] == 503

    async def test_who_has_it_already_gets_nothing(self) -> None:
        ca = TestCA("b.test")
        app = BundleServer(lambda: TrustBundle(ca.trust_domain, ca.bundle().authorities))
        _, headers, _ = await ask(app)
        for value in (headers[b"etag"], b"*", b'"x", W/' + headers[b"etag"]):
            status, again, body = await ask(app, headers=[(b"if-none-match", value)])
            assert (status, body, again[b"etag"]) == (304, b"", headers[b"etag"])
        ca.rotate()
        status, after, _ = await ask(app, headers=[(b"if-none-match", headers[b"etag"])])
        assert status == 200
        assert after[b"etag"] != headers[b"etag"]

    async def test_many_at_once_see_one_document(self) -> None:
        app, seen = BundleServer(lambda: BUNDLE), set()

        async def one() -> None:
            seen.add(await served(app) == await served(app) and (await ask(app))[2])

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
        assert len(seen) == 1

    async def test_a_websocket_is_closed(self) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await BundleServer(lambda: BUNDLE)({"type": "websocket", "path": "/", "headers": []}, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1000}]

    def test_wrong_settings(self) -> None:
        with pytest.raises(CallerError, match="slash"):
            BundleServer(lambda: BUNDLE, path="bundle")
        with pytest.raises(CallerError, match="second"):
            BundleServer(lambda: BUNDLE, refresh_hint=timedelta(0))


class TestInServers:
    """uvicorn, by both profiles; and mounted, where the path is said in two ways."""

    def get(self, url: str, path: str, context: ssl.SSLContext) -> tuple[int, str | None, bytes]:
        where = url.removeprefix("https://").rstrip("/")
        with closing(http.client.HTTPSConnection(where, context=context, timeout=20)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type"), answer.read()

    def test_web(self, serving: Make, web: Any) -> None:
        with serving(BundleServer(lambda: BUNDLE, path="/bundle"), web.server()) as url:
            trust = ssl.create_default_context(cafile=web.ca_file)
            status, kind, body = self.get(url, "/bundle", trust)
            assert (status, kind) == (200, "application/json")
            assert parse_bundle_document(CA.trust_domain, body).jwt_bundle() == BUNDLE.jwt_bundle()
            assert self.get(url, "/", trust)[:2] == (404, "application/problem+json")

    def test_tls_1_2_with_an_svid(self, serving: Make, publisher: Make) -> None:
        """Section 5 asks servers for Mozilla's intermediate profile, which has TLS 1.2."""
        ours = publisher()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.load_verify_locations(cadata=ours.ca.bundle().to_pem().decode())
        with serving(BundleServer(ours.bundle), ours.tls()) as url:
            assert self.get(url, "/", old)[0] == 200

    def test_mounted(self, serving: Make, web: Any) -> None:
        app = Starlette(routes=[Mount("/spiffe", BundleServer(lambda: BUNDLE, path="/bundle"))])
        with serving(app, web.server()) as url:
            trust = ssl.create_default_context(cafile=web.ca_file)
            assert self.get(url, "/spiffe/bundle", trust)[0] == 200
            assert self.get(url, "/spiffe/other", trust)[0] == 404
            assert self.get(url, "/bundle", trust)[0] == 404


NOW = datetime(2026, 1, 1, tzinfo=UTC)


class TestNumbers:
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-(10**6), 10**6)), max_size=30))
    def test_they_grow_with_each_change_whatever_the_clock_does(self, steps: list[tuple[str, int]]) -> None:
        last: Numbered | None = None
        for digest, seconds in steps:
            new = next_number(last, digest, NOW + timedelta(seconds=seconds))
            assert last is None or (new == last) == (digest == last.digest)
            assert last is None or new == last or new.number > last.number
            last = new

    def test_a_restart_that_has_forgotten_goes_on_from_the_clock(self) -> None:
        before = next_number(None, "a", NOW)
        for _ in range(3):
            before = next_number(before, before.digest + "a", NOW)
        assert next_number(None, "z", NOW + timedelta(minutes=1)).number > before.number

    def test_what_counts_as_contents(self) -> None:
        other = TestCA("b.test")
        one = TrustBundle(CA.trust_domain, (CA.certificate, other.certificate))
        turned = TrustBundle(CA.trust_domain, (other.certificate, CA.certificate), sequence_number=9)
        assert contents_digest(one) == contents_digest(turned)
        different = [
            one,
            TrustBundle(CA.trust_domain, (CA.certificate,)),
            replace(one, refresh_hint=timedelta(seconds=1)),
            replace(one, jwt_authorities=BUNDLE.jwt_authorities),
            replace(one, wit_authorities=BUNDLE.jwt_authorities),
        ]
        assert len({contents_digest(bundle) for bundle in different}) == len(different)

    async def test_served_ones_grow_and_stay(self) -> None:
        ca = TestCA("b.test")
        app = BundleServer(lambda: TrustBundle(ca.trust_domain, ca.bundle().authorities))
        numbers = [(await served(app)).sequence_number, (await served(app)).sequence_number]
        for _ in range(3):
            ca.rotate()
            numbers.append((await served(app)).sequence_number)
        assert numbers[0] == numbers[1]
        assert numbers[1:] == sorted(set(numbers[1:]))

    async def test_over_restarts_with_a_file(self, tmp_path: Path) -> None:
        ca, file = TestCA("b.test"), tmp_path / "sequence.json"

        def start() -> BundleServer:
            return BundleServer(lambda: TrustBundle(ca.trust_domain, ca.bundle().authorities), state_file=file)

        first = (await served(start())).sequence_number
        assert (await served(start())).sequence_number == first
        ahead = 2**40  # as if the clock had been far ahead, and was set back
        file.write_text(json.dumps({**json.loads(file.read_text()), "sequence": ahead}))
        assert (await served(start())).sequence_number == ahead
        ca.rotate()
        assert (await served(start())).sequence_number == ahead + 1
        assert file.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "1", "{}", "-----BEGIN", '{"contents": 1, "sequence": 1}', '{"contents": "", "sequence": -1}'],
    )
    def test_a_file_of_something_else_is_left_alone(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "state").write_text(content)
        with pytest.raises(ConfigurationError, match="no file of a sequence number"):
            BundleServer(lambda: BUNDLE, state_file=tmp_path / "state")
        assert (tmp_path / "state").read_text() == content

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read"):
            Numbering(tmp_path)

    def test_a_file_that_cannot_be_written_stops_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        numbering = Numbering(tmp_path / "missing" / "state")
        assert numbering.number(BUNDLE) == numbering.number(BUNDLE)
        assert any("cannot be kept" in record.getMessage() for record in caplog.records)
