"""The port of an upstream authority: who signs our X.509 authorities and publishes our token authorities."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from authsec_sdk.errors import OperatorError
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.authorities import AuthorityKind

POLL: Final = timedelta(seconds=5)
"""How often an upstream authority is asked what it publishes."""


class UpstreamError(OperatorError):
    """The upstream authority cannot be reached or used, or what it answered is of no use."""


@dataclass(frozen=True, slots=True)
class MintedCA:
    """A CA certificate an upstream authority signed for us, not checked yet."""

    chain: tuple[bytes, ...] = field(repr=False)
    """Ours first, DER, up to but without the root."""
    roots: tuple[bytes, ...] = field(repr=False)


class UpstreamAuthority(Protocol):
    """Who stands above. Every call may wait for files or a network."""

    async def mint(self, csr: bytes, ttl: timedelta) -> MintedCA:
        """Have a CA certificate signed for the key of a CSR.

        Raises:
            UpstreamError: it was not.
        """

    async def publish(
        self, kind: AuthorityKind, key_id: str, public_key: bytes, not_after: int
    ) -> PublishedBundle | None:
        """Publish a token authority upstream: its key in DER, its end in Unix seconds or 0.

        Gives what upstream publishes then, or None where it publishes none.

        Raises:
            UpstreamError: it would, and could not now.
        """

    async def bundle(self) -> PublishedBundle | None:
        """What upstream publishes; None: nothing new that we could know of.

        Raises:
            UpstreamError: it cannot be read.
        """
