"""Attests with the service account token that Kubernetes projects into this pod, for the server alone to accept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import k8s_psat as wire
from icp_agent.files import read_bounded
from icp_agent.ports import MakeNodeAttestor, NodeAttestor, NodeParts

NAME: Final = wire.NAME
DEFAULT_TOKEN: Final = Path("/var/run/secrets/tokens/spire-agent")
MAXIMUM_TOKEN_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class PSATAttestation:
    """One attempt: the token is all there is to it."""

    payload: bytes = field(repr=False)

    async def respond(self, challenge: bytes) -> bytes:
        """Refuse: the token is the proof.

        Raises:
            OperatorError: always.
        """
        raise OperatorError(f"the server sent a challenge of {len(challenge)} bytes; k8s_psat has none")


@dataclass(frozen=True, slots=True)
class PSATSettings:
    """What `plugin_data` says; called, it makes the attestor."""

    cluster: str
    token_path: Path = DEFAULT_TOKEN

    def __call__(self, parts: NodeParts) -> NodeAttestor:
        """Make the attestor."""
        del parts
        return PSATAttestor(self)


class PSATAttestor:
    """Reads the token at each attempt, as the kubelet replaces it long before it expires."""

    name = NAME

    def __init__(self, settings: PSATSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[PSATAttestation]:
        """Take the token as it is now.

        Raises:
            ConfigurationError: there is none.
        """
        token = await asyncio.to_thread(_token, self._settings.token_path)
        yield PSATAttestation(wire.ClusterToken(self._settings.cluster, token).payload())


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: the cluster is missing, or a key is unknown.
    """
    with data:
        cluster, path = data.text("cluster"), data.text("token_path")
    if not cluster:
        raise data.error("cluster is required: the name the server has for this cluster")
    return PSATSettings(cluster, Path(path) if path else DEFAULT_TOKEN)


def _token(path: Path) -> str:
    try:
        data = read_bounded(path, MAXIMUM_TOKEN_BYTES, "token")
        token = data.decode("ascii").strip()
    except FileNotFoundError as error:
        raise ConfigurationError(f"unable to load token from {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not token:
        raise ConfigurationError(f"unable to load token from {path}: it is empty, or no text")
    return token
