"""One GET over https with one time limit for all of it, on asyncio: what bundle endpoints need, and nothing more."""

import asyncio
import http.client
import io
import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast
from urllib.parse import SplitResult, urljoin

from authsec_sdk.errors import InvalidEndpointError, SpiffeError, UnavailableError
from authsec_sdk.federation.errors import BundleEndpointError
from authsec_sdk.federation.url import check_url
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.thread import SOCKETS

__all__ = ["MAX_REDIRECTS", "TIMEOUT", "https_get"]

TIMEOUT: Final = 30.0
MAX_REDIRECTS: Final = 5
_MAX_HEAD: Final = 64 * 1024
_CONNECT_SECONDS: Final = 5.0
_GOODBYE_SECONDS: Final = 1.0
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TRY_AGAIN: Final = (429, 500, 502, 503, 504)
_END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"
_PAGES: Final = ("text/html", "application/xhtml+xml")

_AddressInfo: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]

_logger = logging.getLogger(__name__)


async def https_get(
    url: str,
    context: ssl.SSLContext,
    *,
    limit: int,
    timeout: float = TIMEOUT,
    redirects: int = MAX_REDIRECTS,
) -> bytes:
    """Return the body of what an https URL serves; on asyncio.

    What holds: `timeout` is for everything together, names, connections, handshakes, headers, body and redirects, so a
    server that trickles bytes gains nothing. At most `limit` bytes of body are kept. `context` alone decides who is
    believed, on each hop anew: `ssl.create_default_context()` for the web's authorities and the host's name, one of
    `authsec_sdk.tls` for SPIFFE IDs. A redirect is followed to https URLs alone, and never remembered.
    No proxy of the environment is used, no cookie, no credential, no compression.

    Raises:
        InvalidEndpointError: the URL is not https, names no host, or holds user information.
        UnavailableError: nobody answers, in time or at all, or the server asks to be called later.
        BundleEndpointError: the server is not who it should be; it answers no 200, too much, a web page, half of what
            it announced, no HTTP, or redirects elsewhere or too often.
        SpiffeError: what a context of `authsec_sdk.tls` says of the server, such as PeerVerificationError.
    """
    current = check_url(url)
    try:
        async with asyncio.timeout(timeout):
            for _ in range(redirects + 1):
                head, body = await _exchange(current, context, limit)
                if head.status not in _REDIRECTS:
                    return _judged(url, head, body, limit)
                current = _redirected(url, current, head)
    except TimeoutError as error:
        raise UnavailableError(f"{url} takes more than {timeout:g} s") from error
    raise BundleEndpointError(f"{url} redirects more than {redirects} times")


async def _exchange(url: SplitResult, context: ssl.SSLContext, limit: int) -> tuple[http.client.HTTPResponse, bytes]:
    where = f"{url.scheme}://{url.netloc}"
    try:
        reader, writer = await _connect(url, context)
    except SpiffeError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise BundleEndpointError(f"the certificate of {where} is not accepted: {error.verify_message}") from error
    except (OSError, ValueError) as error:  # ValueError: names that IDNA does not know how to write
        raise UnavailableError(f"{where} cannot be reached: {error}") from error
    try:
        writer.write(_request(url))
        head, body = await _read(reader, limit)
    except SpiffeError:
        raise
    except (OSError, EOFError) as error:
        raise UnavailableError(f"{where} hung up without an answer: {error}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise BundleEndpointError(f"{where} answers no HTTP: {type(error).__name__}: {str(error)[:200]!a}") from error
    else:
        await _part(writer)
        return head, body
    finally:
        writer.transport.abort()  # a no-op after a goodbye


async def _connect(url: SplitResult, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Try one address after the other: bundles are in no hurry, and one connection is what a fork can know of."""
    host, port = cast("str", url.hostname), url.port or 443
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in await _addresses(host, port):
        with at_fork.delayed():  # a fork between these two lines would leave the child a connection nobody knows of
            connection = socket.socket(family, kind, protocol)
            SOCKETS.add(connection)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.sock_connect(connection, address)
        except TimeoutError:
            connection.close()
            failure = OSError(f"no connection within {_CONNECT_SECONDS:g} s")
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return await _secure(connection, host, context)
    raise failure


async def _addresses(host: str, port: int) -> Sequence[_AddressInfo]:
    try:  # an address needs no thread to ask somebody
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _secure(
    connection: socket.socket, host: str, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname=host, ssl_shutdown_timeout=_GOODBYE_SECONDS
        )
    except BaseException:
        connection.close()
        raise


def _request(url: SplitResult) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {url.netloc}",
        "Accept: application/json, */*;q=0.5",
        "Accept-Encoding: identity",
        "User-Agent: authsec-sdk",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


async def _read(reader: asyncio.StreamReader, limit: int) -> tuple[http.client.HTTPResponse, bytes]:
    """Read one answer. The standard library parses it; here is only decided when it is complete, or too much."""
    raw = bytearray()
    while (end := raw.find(b"\r\n\r\n")) < 0:
        if len(raw) > _MAX_HEAD:
            raise BundleEndpointError(f"the headers of the answer have more than {_MAX_HEAD} bytes")
        if not (chunk := await reader.read(_MAX_HEAD)):
            raise EOFError("before the end of its headers" if raw else "before its first byte")
        raw += chunk
    head = _parsed(bytes(raw[: end + 4]))
    if head.status != http.client.OK:
        return head, b""
    # What chunks may add: a megabyte of one-byte ones took the thread that all sources share three seconds to parse.
    most = end + 4 + limit + (limit // 4 if head.chunked else 0)
    whole = None if head.length is None else end + 4 + head.length
    while True:
        if len(raw) > most or (head.length or 0) > limit:
            raise BundleEndpointError(f"the answer has more than {limit} bytes")
        if (whole is not None and len(raw) >= whole) or (head.chunked and raw.endswith(_END_OF_CHUNKS)):
            break
        if not (chunk := await reader.read(_MAX_HEAD)):
            break
        raw += chunk
    return head, _parsed(bytes(raw)).read()  # raises IncompleteRead for half of what was announced


def _parsed(data: bytes) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(cast("socket.socket", _Recorded(data)), method="GET")
    response.begin()
    return response


class _Recorded:
    """As much of a socket as `http.client` wants to see."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


async def _part(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):  # what was to be read is read
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await writer.wait_closed()


def _judged(url: str, head: http.client.HTTPResponse, body: bytes, limit: int) -> bytes:
    if head.status != http.client.OK:
        text = f"{url} answers {head.status} {head.reason[:100]!r}"
        raise UnavailableError(text) if head.status in _TRY_AGAIN else BundleEndpointError(text)
    coding = head.getheader("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise BundleEndpointError(f"{url} answers in the coding {coding[:40]!r}, which was not asked for")
    # The standard only recommends application/json, and files are served as all sorts of things; but not as pages.
    kind = head.getheader("Content-Type", "").split(";")[0].strip().lower()
    if kind in _PAGES:
        raise BundleEndpointError(f"{url} answers with a web page ({kind}): is the URL right?")
    if len(body) > limit:
        raise BundleEndpointError(f"the answer has more than {limit} bytes")
    return body


def _redirected(url: str, current: SplitResult, head: http.client.HTTPResponse) -> SplitResult:
    location = head.getheader("Location")
    if not location:
        raise BundleEndpointError(f"{url} redirects to nowhere")
    try:
        target = check_url(urljoin(current.geturl(), location))
    except (InvalidEndpointError, ValueError) as error:
        raise BundleEndpointError(f"{url} redirects to what is not followed: {error}") from error
    _logger.info("redirected, for this once url=%s to=%s", url, target.geturl())
    return target
