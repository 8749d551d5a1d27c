"""A host proves its name by serving a nonce over HTTP: the messages of SPIRE's attestor `http_challenge`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from authsec_sdk.spire.attestation.messages import AttestationMessage, encode

NAME: Final = "http_challenge"
MAXIMUM_AGENT_NAME: Final = 32
ACKNOWLEDGEMENT: Final = b"\n"
"""What an agent answers to the challenge; the proof itself goes over HTTP."""

_AGENT_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Host:
    """Where the agent says that it answers."""

    hostname: str
    agent_name: str
    port: int

    @classmethod
    def parse(cls, data: bytes) -> Host:
        """Read the payload; nothing in it is judged.

        Raises:
            AttestationMessageError: it is no such message.
        """
        message = AttestationMessage.parse(data)
        return cls(message.text("hostname"), message.text("agentname"), message.integer("port"))

    def payload(self) -> bytes:
        """Write the payload."""
        return encode({"hostname": self.hostname, "agentname": self.agent_name, "port": self.port})

    @property
    def path(self) -> str:
        """Where the nonce is served."""
        return f"/.well-known/spiffe/nodeattestor/http_challenge/{self.agent_name}/challenge"


def is_agent_name(text: str) -> bool:
    """Whether an agent may be called so: a letter, then letters, digits and dashes, at most 32 in all."""
    return len(text) <= MAXIMUM_AGENT_NAME and _AGENT_NAME.match(text) is not None


def challenge(nonce: str) -> bytes:
    """Tell the agent what to serve."""
    return encode({"nonce": nonce})


def parse_challenge(data: bytes) -> str:
    """Read the nonce.

    Raises:
        AttestationMessageError: it is no such message.
    """
    return AttestationMessage.parse(data).text("nonce")
