"""Handshakes in memory, and a process without an identity before and after each test."""

import ssl
from collections.abc import Callable, Iterator

import pytest

from authsec_sdk import quickstart
from authsec_sdk.testing import shake

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

    def finish(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
        pipe = shake(server, client).check()
        assert (pipe.to_server(), pipe.to_client()) == (b"ping", b"pong")
        return pipe.client, pipe.server

    return finish
