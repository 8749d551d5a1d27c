"""gRPC with grpcio over mutual TLS, client and server, sync and asyncio (extra ``grpc``).

``mtls_channel`` and ``mtls_aio_channel`` give channels whose connections present the newest X509-SVID and are refused,
before a byte of a call is sent, unless the server's SPIFFE ID satisfies the authorizer. grpcio cannot do that itself,
so such a channel is carried over mutual TLS by a thread in this process, which the channel owns.

``mtls_server`` and ``mtls_aio_server`` give servers whose certificate follows the source. grpcio lets nobody refuse in
its handshakes, so callers are refused when their call comes and before its handler runs: a client that completed the
handshake has been seen by no handler. :func:`peer_spiffe_id` tells a handler who calls. TLS 1.2 and 1.3 are spoken, as
grpcio has it.

Make channels and servers after a fork, never before: grpcio itself does not survive one by default.
"""

from authsec_sdk.integrations._grpc_callers import peer_spiffe_id
from authsec_sdk.integrations._grpc_channel import MTLSAioChannel, MTLSChannel, mtls_aio_channel, mtls_channel
from authsec_sdk.integrations._grpc_server import MTLSAioServer, MTLSServer, mtls_aio_server, mtls_server

__all__ = [
    "MTLSAioChannel",
    "MTLSAioServer",
    "MTLSChannel",
    "MTLSServer",
    "mtls_aio_channel",
    "mtls_aio_server",
    "mtls_channel",
    "mtls_server",
    "peer_spiffe_id",
]
