"""Asks a Docker Engine, or Podman's API of the same shape, about one container: one bounded call over its socket."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authsec_sdk.errors import OperatorError, UnavailableError
from icp_common.http_exchange import Request, exchange

MAXIMUM_ANSWER: Final = 4 * 1024 * 1024
_UCRED: Final = struct.Struct("=iII")


class EngineError(UnavailableError):
    """The engine does not answer, or answers what makes no sense."""


class EngineOwnerError(OperatorError):
    """Somebody listens on the engine's socket whose word must not make selectors."""


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """What the engine says of a container. `first_pid` 0: it does not run."""

    first_pid: int
    labels: Mapping[str, str]
    environment: tuple[str, ...]
    image: str
    image_config_digest: str

    @classmethod
    def parse(cls, body: bytes) -> "ContainerInfo":
        """Read an answer to `GET /containers/ID/json`.

        Raises:
            EngineError: it is none.
        """
        try:
            document = json.loads(body)
            config, state = document["Config"], document["State"]
            # With containerd's image store, `Image` is the digest of a manifest and not of the configuration.
            digest = "" if document.get("ImageManifestDescriptor") else _text(document.get("Image"))
            return cls(
                first_pid=int(state["Pid"]),
                labels={_text(key): _text(value) for key, value in (config.get("Labels") or {}).items()},
                environment=tuple(_text(one) for one in config.get("Env") or ()),
                image=_text(config.get("Image")),
                image_config_digest=digest if digest.startswith("sha256:") else "",
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EngineError(f"the container engine sent an unknown answer: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine at a Unix socket. Only `trusted_uids` may listen there: whoever does decides on selectors."""

    path: str
    trusted_uids: frozenset[int]
    version: str = ""

    async def inspect(self, container_id: str) -> ContainerInfo | None:
        """What the engine knows of the container; None if it knows none.

        Raises:
            EngineError: it cannot be asked.
            EngineOwnerError: another user listens there.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self.path)
        except OSError as error:
            raise EngineError(f"no container engine answers at {self.path}: {error.strerror}") from error
        try:
            self._check_owner(writer.get_extra_info("socket"))
            prefix = f"/v{self.version}" if self.version else ""
            request = Request("GET", "localhost", f"{prefix}/containers/{container_id}/json")
            answer = await exchange(reader, writer, request, limit=MAXIMUM_ANSWER)
        finally:
            writer.transport.abort()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise EngineError(f"the container engine at {self.path} answers {answer.status}")
        return ContainerInfo.parse(answer.body)

    def _check_owner(self, connection: socket.socket) -> None:
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in self.trusted_uids:
            raise EngineOwnerError(f"user {uid} listens on {self.path}, who may not say what containers are")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
