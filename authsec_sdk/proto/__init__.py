"""Our .proto text and what is generated of it; messages live in a descriptor pool of our own (`_pool.py`).

Import modules from here: ``from authsec_sdk.proto import workload_pb2, workload_grpc``; what SPIRE alone means is in
``authsec_sdk.proto.spire``. Each module is loaded when it is first asked for. ``any_pb2``, ``empty_pb2``,
``struct_pb2`` and ``wrappers_pb2`` are the well-known types of our pool: those of ``google.protobuf`` are other classes
and do not fit into our messages.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authsec_sdk.proto._generated import (
        any_pb2,
        empty_pb2,
        health_grpc,
        health_pb2,
        reflection_v1_grpc,
        reflection_v1_pb2,
        reflection_v1alpha_grpc,
        reflection_v1alpha_pb2,
        status_pb2,
        struct_pb2,
        workload_grpc,
        workload_pb2,
        wrappers_pb2,
    )

__all__ = [
    "any_pb2",
    "empty_pb2",
    "health_grpc",
    "health_pb2",
    "reflection_v1_grpc",
    "reflection_v1_pb2",
    "reflection_v1alpha_grpc",
    "reflection_v1alpha_pb2",
    "status_pb2",
    "struct_pb2",
    "workload_grpc",
    "workload_pb2",
    "wrappers_pb2",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return importlib.import_module(f"authsec_sdk.proto._generated.{name}")
