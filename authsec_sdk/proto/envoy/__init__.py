"""Messages of Envoy's Secret Discovery Service (xDS v3); each module is loaded when it is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authsec_sdk.proto._generated.envoy import (
        core_pb2,
        discovery_pb2,
        sds_grpc,
        sds_pb2,
        semantic_version_pb2,
        tls_pb2,
    )

__all__ = [
    "core_pb2",
    "discovery_pb2",
    "sds_grpc",
    "sds_pb2",
    "semantic_version_pb2",
    "tls_pb2",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return importlib.import_module(f"authsec_sdk.proto._generated.envoy.{name}")
