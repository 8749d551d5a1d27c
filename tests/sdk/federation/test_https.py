"""The GET against servers that do everything wrong, on real sockets."""

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidEndpointError, SpiffeError, UnavailableError
from authsec_sdk.federation import BundleEndpointError, https_get
from authsec_sdk.federation.url import check_url

pytestmark = pytest.mark.anyio
LIMIT = 10_000
Make = Callable[..., Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def get(web: Any) -> Callable[..., Any]:
    async def run(url: str, **options: Any) -> bytes:
        context = ssl.create_default_context(cafile=web.ca_file)
        return await https_get(url, context, **{"limit": LIMIT, "timeout": 20.0, **options})

    return run


class TestGood:
    async def test_a_body_with_its_length(self, site: Make, web: Any, http: Any, get: Any) -> None:
        assert await get(site(web.server(), http.always(http.reply(b"body"))).url) == b"body"

    async def test_a_server_that_keeps_the_connection_open(self, site: Make, web: Any, http: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            connection.sendall(http.reply(b"body"))
            here.pause(30)

        here = site(web.server(), answer)
        assert await get(here.url) == b"body"

    @pytest.mark.parametrize("keep", [False, True])
    async def test_chunks(self, site: Make, web: Any, get: Any, keep: bool) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n")
            if keep:
                here.pause(30)

        here = site(web.server(), answer)
        assert await get(here.url) == b"body"

    async def test_a_body_until_the_end(self, site: Make, web: Any, http: Any, get: Any) -> None:
        assert await get(site(web.server(), http.always(b"HTTP/1.0 200 OK\r\n\r\nbody")).url) == b"body"

    async def test_one_byte_at_a_time(self, site: Make, web: Any, http: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            for byte in http.reply(b"body"):
                connection.sendall(bytes([byte]))

        assert await get(site(web.server(), answer).url) == b"body"

    @pytest.mark.parametrize(
        "kind", ["application/json", "application/json; charset=utf-8", "application/jwk-set+json", "text/plain", "x"]
    )
    async def test_types_of_data(self, site: Make, web: Any, http: Any, get: Any, kind: str) -> None:
        answer = http.always(http.reply(b"body", "200 OK", f"Content-Type: {kind}"))
        assert await get(site(web.server(), answer).url) == b"body"

    async def test_a_redirect_for_this_once(self, site: Make, web: Any, http: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, path: str) -> None:
            there = path == "/there?x=1"
            connection.sendall(
                http.reply(b"there") if there else http.reply(b"", "301 Moved", "Location: /there?x=1#fragment")
            )

        here = site(web.server(), answer)
        assert await get(here.url) == await get(here.url) == b"there"
        assert here.paths == ["/bundle", "/there?x=1"] * 2


class TestTime:
    """`timeout` is for everything: no server gains by being slow in a new place."""

    async def expect(self, get: Any, url: str) -> None:
        with pytest.raises(UnavailableError, match=r"takes more than 0\.5 s"):
            await get(url, timeout=0.5)

    async def test_slow_headers(self, site: Make, web: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(1000):
                here.pause(0.02)
                connection.sendall(f"X-{number}: 1\r\n".encode())

        here = site(web.server(), answer)
        await self.expect(get, here.url)

    async def test_slow_body(self, site: Make, web: Any, http: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            connection.sendall(http.reply(b"", length=5000))
            for _number in range(5000):
                here.pause(0.02)
                connection.sendall(b" ")

        here = site(web.server(), answer)
        await self.expect(get, here.url)

    async def test_slow_redirects(self, site: Make, web: Any, http: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            here.pause(0.2)
            connection.sendall(http.reply(b"", "302 Found", "Location: /again"))

        here = site(web.server(), answer)
        await self.expect(get, here.url)

    async def test_nothing_at_all(self, site: Make, web: Any, get: Any) -> None:
        here = site(web.server(), lambda *_: here.pause(30))
        await self.expect(get, here.url)

    async def test_no_handshake(self, web: Any, get: Any) -> None:
        web.server()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            await self.expect(get, f"https://127.0.0.1:{silent.getsockname()[1]}/")


class TestSize:
    async def test_a_hundred_megabytes_announced(self, site: Make, web: Any, http: Any, get: Any) -> None:
        answer = http.always(http.reply(b"x" * 5000, length=100_000_000))
        with pytest.raises(BundleEndpointError, match="more than 10000 bytes"):
            await get(site(web.server(), answer).url)

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_bytes_without_end(self, site: Make, web: Any, get: Any, chunked: bool) -> None:
        sent = 0

        def answer(connection: ssl.SSLSocket, _: str) -> None:
            nonlocal sent
            coding = b"Transfer-Encoding: chunked\r\n" if chunked else b""
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n")
            piece = b"1000\r\n" + bytes(0x1000) + b"\r\n" if chunked else bytes(0x1000)
            for _number in range(25_000):
                connection.sendall(piece)
                sent += len(piece)

        with pytest.raises(BundleEndpointError, match="more than 10000 bytes"):
            await get(site(web.server(), answer).url)
        assert sent < 50_000_000  # what buffers hold, and nothing like all of it

    async def test_a_chunked_body_over_the_limit(self, site: Make, web: Any, get: Any) -> None:
        body = b"4e20\r\n" + bytes(20_000) + b"\r\n0\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        with pytest.raises(BundleEndpointError, match="more than 10000 bytes"):
            await get(site(web.server(), lambda connection, _: connection.sendall(answer)).url)

    async def test_tiny_chunks_are_taken_as_far_as_they_are_few(self, site: Make, web: Any, get: Any) -> None:
        """To put many of them together takes the thread that all sources share its time."""

        def reply(chunks: int) -> Any:
            answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"
            return site(web.server(), lambda connection, _: connection.sendall(answer)).url

        assert await get(reply(2000)) == b"x" * 2000
        with pytest.raises(BundleEndpointError, match="more than 10000 bytes"):
            await get(reply(9999))

    async def test_headers_without_end(self, site: Make, web: Any, get: Any) -> None:
        def answer(connection: ssl.SSLSocket, _: str) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(100_000):
                connection.sendall(f"X-{number}: {'x' * 100}\r\n".encode())

        with pytest.raises(BundleEndpointError, match="headers"):
            await get(site(web.server(), answer).url)


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "error", "text"),
        [
            (b"HTTP/1.1 204 No Content\r\n\r\n", BundleEndpointError, "204"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", BundleEndpointError, "404"),
            (b"HTTP/1.1 304 Not Modified\r\n\r\n", BundleEndpointError, "304"),
            (b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n", UnavailableError, "503"),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi", BundleEndpointError, "html"),
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", BundleEndpointError, "gzip"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", BundleEndpointError, "IncompleteRead"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", BundleEndpointError, "IncompleteRead"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BundleEndpointError, "no HTTP"),
            (b"HTTP/1.1 abc OK\r\n\r\n", BundleEndpointError, "no HTTP"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", BundleEndpointError, "no HTTP"),
            (b"\x1b]0;name\x07HTTP/1.1\r\n\r\n", BundleEndpointError, "no HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", UnavailableError, "before the end of its headers"),
            (b"", UnavailableError, "before its first byte"),
            (b"HTTP/1.1 302 Found\r\n\r\n", BundleEndpointError, "nowhere"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", BundleEndpointError, "not https"),
            (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", BundleEndpointError, "not https"),
            (b"HTTP/1.1 302 Found\r\nLocation: https://me:pw@127.0.0.1/\r\n\r\n", BundleEndpointError, "user info"),
            (b"HTTP/1.1 302 Found\r\nLocation: https://[half\r\n\r\n", BundleEndpointError, "not followed"),
            (b"HTTP/1.1 302 Found\r\nLocation: https://a..b/\r\n\r\n", UnavailableError, "cannot be reached"),
            (b"HTTP/1.1 302 Found\r\nLocation: https://host:99999/\r\n\r\n", BundleEndpointError, "not followed"),
            (b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", BundleEndpointError, "redirects more than 5 times"),
        ],
    )
    async def test_others(
        self, site: Make, web: Any, http: Any, get: Any, answer: bytes, error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text) as caught:
            await get(site(web.server(), http.always(answer)).url)
        assert str(caught.value).isprintable()  # it goes to logs and terminals

    async def test_redirects_can_be_forbidden(self, site: Make, web: Any, http: Any, get: Any) -> None:
        here = site(web.server(), http.always(http.reply(b"", "302 Found", "Location: /there")))
        with pytest.raises(BundleEndpointError, match="redirects more than 0 times"):
            await get(here.url, redirects=0)
        assert here.paths == ["/bundle"]

    @given(junk=st.binary(max_size=300))
    async def test_any_bytes_after_the_status(self, junk: bytes) -> None:
        """Whatever a server says, the answer is bytes or one of our errors. Parsed without a socket: it is the same."""
        import asyncio

        from authsec_sdk.federation import https

        reader = asyncio.StreamReader()
        reader.feed_data(b"HTTP/1.1 200 OK\r\n" + junk)
        reader.feed_eof()
        try:
            head, body = await https._read(reader, LIMIT)
            https._judged("https://x/", head, body, LIMIT)
        except (SpiffeError, EOFError, ValueError, https.http.client.HTTPException):
            pass  # all of which `_exchange` turns into ours


class TestTrust:
    async def test_a_certificate_nobody_knows(self, site: Make, web: Any, http: Any) -> None:
        here = site(web.server(), http.always(http.reply(b"evil")))
        with pytest.raises(BundleEndpointError, match=r"certificate .* is not accepted"):
            await https_get(here.url, ssl.create_default_context(), limit=LIMIT)
        assert here.paths == []

    async def test_another_hosts_certificate(self, site: Make, web: Any, http: Any, get: Any) -> None:
        here = site(web.server(name="other.example"), http.always(http.reply(b"evil")))
        with pytest.raises(BundleEndpointError, match="not accepted"):
            await get(here.url)

    async def test_an_expired_certificate(self, site: Make, web: Any, http: Any, get: Any) -> None:
        here = site(web.server(days=-1), http.always(http.reply(b"evil")))
        with pytest.raises(BundleEndpointError, match="expired"):
            await get(here.url)

    async def test_plain_text_behind_an_https_url(self, web: Any, get: Any) -> None:
        web.server()
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def talk() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

            thread = threading.Thread(target=talk)
            thread.start()
            with pytest.raises(UnavailableError, match="cannot be reached"):
                await get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
            thread.join()

    async def test_nobody_there(self, web: Any, get: Any) -> None:
        web.server()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await get(f"https://127.0.0.1:{port}/")

    @pytest.mark.parametrize("name", ["nobody.invalid", "a..b", ".a", "a" * 64, "1.2.3.4.5", "[::1%25lo]"])
    async def test_a_name_that_is_none(self, web: Any, get: Any, name: str) -> None:
        web.server()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await get(f"https://{name}:1/")


class TestURLs:
    @pytest.mark.parametrize(
        "url",
        [
            "http://b.test/",
            "HTTP://b.test/",
            "ftp://b.test/",
            "file:///etc/passwd",
            "https://",
            "https:///bundle",
            "https://user@b.test/",
            "https://user:secret@b.test/",
            "https://@b.test/",
            "https://b.test:0/",
            "https://b.test:99999/",
            "https://b.test:port/",
            "https://[::1/",
            "https://b.test/a b",
            "https://b.test/\r\nHost: evil",
            "https://b.test/ä",
            "https://bücher.test/",
            "//b.test/",
            "",
        ],
    )
    def test_wrong(self, url: str) -> None:
        with pytest.raises(InvalidEndpointError) as caught:
            check_url(url)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["https://b.test", "https://b.test:8443/x?y=z", "https://[::1]:1/", "HTTPS://B.test/"]
    )
    def test_right(self, url: str) -> None:
        assert check_url(url).hostname in ("b.test", "::1")

    @given(st.text(max_size=60) | st.text("htps:/@[].#?%0aé \t", max_size=30).map(lambda text: "https://" + text))
    def test_any_text(self, url: str) -> None:
        try:
            parts = check_url(url)
        except InvalidEndpointError:
            return
        assert parts.scheme == "https"
        assert parts.hostname
        assert parts.username is None
        assert not parts.fragment
