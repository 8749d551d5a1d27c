"""Attests with a token that the server's operator generated for this node and that works once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.reserved_ids import JOIN_TOKEN
from icp_agent.ports import MakeNodeAttestor, NodeAttestor, NodeParts

NAME: Final = JOIN_TOKEN


@dataclass(frozen=True, slots=True)
class JoinTokenAttestation:
    """One attempt: the token is all there is to it."""

    payload: bytes = field(repr=False)

    async def respond(self, challenge: bytes) -> bytes:
        """Refuse: a server that asks more of a join token is not to be trusted with an answer.

        Raises:
            OperatorError: always.
        """
        raise OperatorError(f"the server sent a challenge of {len(challenge)} bytes; join tokens have none")


class JoinTokenAttestor:
    """Sends the join token. `read_token` is asked at each attempt, so a new token in a file needs no restart."""

    name = NAME

    def __init__(self, read_token: Callable[[], str]) -> None:
        self._read_token = read_token

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[JoinTokenAttestation]:
        """Take the token as it is now.

        Raises:
            ConfigurationError: there is none.
        """
        token = await asyncio.to_thread(self._read_token)
        if not token:
            raise ConfigurationError(
                "join token was not provided: generate one with `icp-server token generate` and give it as -joinToken, "
                "join_token or join_token_file"
            )
        yield JoinTokenAttestation(token.encode())


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings, of which there are none.

    Raises:
        ConfigurationError: there is one.
    """
    data.finish()
    return make


def make(parts: NodeParts) -> NodeAttestor:
    """Make the attestor."""
    return JoinTokenAttestor(parts.read_join_token)
