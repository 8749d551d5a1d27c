"""A projected service account token, and which cluster made it: the one message of SPIRE's attestor `k8s_psat`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from authsec_sdk.spire.attestation.messages import AttestationMessage, encode

NAME: Final = "k8s_psat"


@dataclass(frozen=True, slots=True)
class ClusterToken:
    """A token, and the name the server knows its cluster by."""

    cluster: str
    token: str = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> ClusterToken:
        """Read the payload; either part may be empty.

        Raises:
            AttestationMessageError: it is no such message.
        """
        message = AttestationMessage.parse(data)
        return cls(message.text("cluster"), message.text("token"))

    def payload(self) -> bytes:
        """Write the payload."""
        return encode({"cluster": self.cluster, "token": self.token})
