"""Who stands above this server's X.509 authorities, as settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class DiskUpstream:
    """A CA whose key is in a file. The files are read again when they change."""

    certificate: Path
    """The CA's certificate, and after it those between it and the root, PEM."""
    key: Path
    bundle: Path | None = None
    """The roots, PEM. None: the certificate is a root itself."""


@dataclass(frozen=True, slots=True)
class SpireUpstream:
    """Another SPIRE server of the same trust domain, reached with the identity a local agent gives us."""

    host: str
    port: int
    workload_api: Path
    """The agent's socket."""


UpstreamSettings: TypeAlias = DiskUpstream | SpireUpstream
