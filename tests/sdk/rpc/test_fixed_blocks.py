"""Headers compressed once for all connections: the peer reads what it would read otherwise, and the rules hold."""

import pytest
from h2.connection import H2Connection
from h2.events import Event, ResponseReceived, StreamEnded, TrailersReceived
from h2.exceptions import ProtocolError
from hpack import Decoder

from authsec_sdk.rpc.http2 import FrameBounds, Http2, fixed_block, h2_config

REQUEST = [(":method", "POST"), (":path", "/a/b"), (":scheme", "http"), (":authority", "x")]
ANSWER = fixed_block((":status", "200"), ("content-type", "application/grpc"))
END = fixed_block(("grpc-status", "0"))


def called() -> tuple[Http2, H2Connection]:
    """A server and a client with one call under way."""
    server = Http2(h2_config(client_side=False), FrameBounds(10, 16384, 65535, 65535))
    client = H2Connection(h2_config(client_side=True))
    client.initiate_connection()
    client.send_headers(1, REQUEST)
    server.receive_data(client.data_to_send())
    return server, client


def received(server: Http2, client: H2Connection) -> list[Event]:
    return [
        event
        for event in client.receive_data(server.data_to_send())
        if isinstance(event, (ResponseReceived, TrailersReceived, StreamEnded))
    ]


def test_a_block_says_its_headers_and_leaves_the_table_alone() -> None:
    decoder = Decoder()
    for _ in range(2):
        headers = decoder.decode(ANSWER, raw=True)
        assert [tuple(header) for header in headers] == [(b":status", b"200"), (b"content-type", b"application/grpc")]
        assert not decoder.header_table.dynamic_entries


def test_the_peer_reads_headers_and_trailers_among_others() -> None:
    server, client = called()
    server.send_block(1, ANSWER, end_stream=False)
    server.send_data(1, b"data")
    server.send_block(1, END, end_stream=True)
    answer, trailers, ended = received(server, client)
    assert isinstance(answer, ResponseReceived)
    assert isinstance(trailers, TrailersReceived)
    assert isinstance(ended, StreamEnded)
    assert trailers.headers == [("grpc-status", "0")]
    client.send_headers(3, REQUEST, end_stream=True)
    server.receive_data(client.data_to_send())
    server.send_headers(3, [(":status", "200"), ("x", "y")])  # the table of both is still the same
    server.send_block(3, END, end_stream=True)
    answer, *_ = received(server, client)
    assert isinstance(answer, ResponseReceived)
    assert (b"x", b"y") in [(name.encode(), value.encode()) for name, value in answer.headers]


def test_what_may_not_be_sent_is_refused_as_ever() -> None:
    server, _ = called()
    with pytest.raises(ProtocolError):
        server.send_block(3, ANSWER, end_stream=False)
    server.send_block(1, ANSWER, end_stream=True)
    with pytest.raises(ProtocolError):
        server.send_block(1, END, end_stream=True)
