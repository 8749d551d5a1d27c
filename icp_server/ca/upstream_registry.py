"""Opens the upstream authority a configuration chose: one case each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsec_sdk.spiffe import TrustDomain
from icp_server.ca.upstream import UpstreamAuthority
from icp_server.ca.upstream_disk import UpstreamDisk
from icp_server.domain.upstream_settings import DiskUpstream, SpireUpstream, UpstreamSettings
from icp_server.ports import Clock


@asynccontextmanager
async def open_upstream(
    settings: UpstreamSettings, trust_domain: TrustDomain, clock: Clock
) -> AsyncIterator[UpstreamAuthority]:
    """The upstream authority, until the end of the block. Nothing is read or asked before it is needed."""
    match settings:
        case DiskUpstream():
            yield UpstreamDisk(settings, trust_domain, clock)
        case SpireUpstream():
            from icp_server.ca.upstream_spire import UpstreamSpire  # few servers need a client of the Workload API

            async with UpstreamSpire.open(settings, trust_domain) as upstream:
                yield upstream
