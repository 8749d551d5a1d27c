"""Messages and services of SPIRE's API; each module is loaded when it is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authsec_sdk.proto._generated.spire import (
        agent_grpc,
        agent_pb2,
        bundle_grpc,
        bundle_pb2,
        debug_grpc,
        debug_pb2,
        entry_grpc,
        entry_pb2,
        localauthority_grpc,
        localauthority_pb2,
        logger_grpc,
        logger_pb2,
        svid_grpc,
        svid_pb2,
        trustdomain_grpc,
        trustdomain_pb2,
        types_pb2,
    )

__all__ = [
    "agent_grpc",
    "agent_pb2",
    "bundle_grpc",
    "bundle_pb2",
    "debug_grpc",
    "debug_pb2",
    "entry_grpc",
    "entry_pb2",
    "localauthority_grpc",
    "localauthority_pb2",
    "logger_grpc",
    "logger_pb2",
    "svid_grpc",
    "svid_pb2",
    "trustdomain_grpc",
    "trustdomain_pb2",
    "types_pb2",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return importlib.import_module(f"authsec_sdk.proto._generated.spire.{name}")
