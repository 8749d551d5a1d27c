"""Output masks: absent means everything, present (also empty) means only what it names."""

from __future__ import annotations

from typing import Any

from authsec_sdk.proto.spire import types_pb2


def entry_mask(request: Any) -> types_pb2.EntryMask | None:
    """Return the mask of a request for entries."""
    return request.output_mask if request.HasField("output_mask") else None


def agent_mask(request: Any) -> types_pb2.AgentMask | None:
    """Return the mask of a request for agents."""
    return request.output_mask if request.HasField("output_mask") else None


def bundle_mask(request: Any) -> types_pb2.BundleMask | None:
    """Return the mask of a request for bundles."""
    return request.output_mask if request.HasField("output_mask") else None
