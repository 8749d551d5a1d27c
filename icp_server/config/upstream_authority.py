"""The settings of an upstream authority: files of a CA, or another SPIRE server."""

from __future__ import annotations

from pathlib import Path

from authsec_sdk.hcl import Fields
from icp_server.config import schema
from icp_server.config.section import open_section
from icp_server.domain.upstream_settings import DiskUpstream, SpireUpstream, UpstreamSettings


def read_upstream_authority(name: str, data: Fields, notes: list[str]) -> UpstreamSettings:
    """Read the `plugin_data` of the upstream authority of this name, which is one of the built ones.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    if name == "disk":
        bundle = data.text("bundle_file_path")
        return DiskUpstream(
            Path(_needed(data, "cert_file_path")),
            Path(_needed(data, "key_file_path")),
            Path(bundle) if bundle else None,
        )
    if experimental := data.block("experimental"):
        open_section(experimental, schema.UPSTREAM_SPIRE_EXPERIMENTAL, notes)
    port = data.integer("server_port", minimum=1, maximum=65535)
    if port is None:
        raise data.error(f"server_port in {data.where} must be set")
    return SpireUpstream(_needed(data, "server_address"), port, Path(_needed(data, "workload_api_socket")))


def _needed(data: Fields, key: str) -> str:
    text = data.text(key)
    if not text:
        raise data.error(f"{key} in {data.where} must be set")
    return text
