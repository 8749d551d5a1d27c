"""gRPC between our programs and anybody's: grpclib made safe against Go peers and hostile callers.

`Channel` and `Server` carry the handlers and stubs generated in `authsec_sdk.proto`. What grpclib and h2 get wrong is
repaired here and nowhere else; each repair names the clause it restores and has a test against grpc-go.
"""

import importlib
from typing import TYPE_CHECKING, Final

from authsec_sdk.rpc.channel import Channel
from authsec_sdk.rpc.limits import ChannelOptions, ServerLimits
from authsec_sdk.rpc.status import CallTerminatedError, GRPCError, Status, error_details

if TYPE_CHECKING:
    from authsec_sdk.rpc.peer import Call, Interceptor, Peer, Proceed, current_call
    from authsec_sdk.rpc.server import Server
    from authsec_sdk.rpc.server_protocol import ServerStats
    from authsec_sdk.rpc.server_stream import ServerStream

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

# What only servers need is loaded when it is first asked for: most programs are clients, of the Workload API.
_OF_SERVERS: Final = {
    **dict.fromkeys(("Call", "Interceptor", "Peer", "Proceed", "current_call"), "peer"),
    "Server": "server",
    "ServerStats": "server_protocol",
    "ServerStream": "server_stream",
}


def __getattr__(name: str) -> object:
    if name not in _OF_SERVERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_OF_SERVERS[name]}"), name)
    globals()[name] = value
    return value
