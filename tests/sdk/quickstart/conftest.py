"""Handshakes in memory, and a process without an identity before and after each test."""

import ssl
from collections.abc import Callable, Iterator

import pytest

from authsec_sdk import quickstart
from authsec_sdk.tls import SpiffeSSLObject

Handshake = Callable[[ssl.SSLContext, ssl.SSLContext], tuple[ssl.SSLObject, ssl.SSLObject]]


@pytest.fixture(autouse=True)
def _no_identity() -> Iterator[None]:
    assert quickstart._current is None
    yield
    if quickstart._current is not None:
        quickstart._current.source.close()
        quickstart._current = None


@pytest.fixture
def handshake() -> Handshake:
    """Shake hands between a client's and a server's context, and let both send a byte; raises what they raise."""

    def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            client.wrap_bio(to_client, to_server, server_side=False, server_hostname="anything.test"),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        pending = list(ends)
        for _ in range(20):
            for end in list(pending):
                try:
                    end.do_handshake()
                    pending.remove(end)
                except ssl.SSLWantReadError:
                    continue
            if not pending:
                break
        assert not pending
        for sender, receiver in (ends, ends[::-1]):
            sender.write(b"x")
            assert receiver.read(1) == b"x"
        assert all(isinstance(end, ssl.SSLObject | SpiffeSSLObject) for end in ends)
        return ends[0], ends[1]

    return shake
