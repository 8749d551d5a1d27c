"""gRPC between our programs and anybody's: grpclib made safe against Go peers and hostile callers.

`Channel` and `Server` carry the handlers and stubs generated in `authsec_sdk.proto`. What grpclib and h2 get wrong is
repaired here and nowhere else; each repair names the clause it restores and has a test against grpc-go.
"""

from authsec_sdk.rpc.channel import Channel
from authsec_sdk.rpc.limits import ChannelOptions, ServerLimits
from authsec_sdk.rpc.peer import Call, Interceptor, Peer, Proceed, current_call
from authsec_sdk.rpc.server import Server
from authsec_sdk.rpc.server_protocol import ServerStats
from authsec_sdk.rpc.server_stream import ServerStream
from authsec_sdk.rpc.status import CallTerminatedError, GRPCError, Status, error_details

__all__ = [
    "Call",
    "CallTerminatedError",
    "Channel",
    "ChannelOptions",
    "GRPCError",
    "Interceptor",
    "Peer",
    "Proceed",
    "Server",
    "ServerLimits",
    "ServerStats",
    "ServerStream",
    "Status",
    "current_call",
    "error_details",
]
