"""The agent's two sockets: the public one for every workload, the admin one for its operator alone."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from authsec_sdk.errors import PeerCredentialError
from authsec_sdk.rpc import Peer, Server, ServerLimits
from icp_agent.api.callers import identify
from icp_agent.api.health import Health
from icp_agent.api.workload import require_security_header
from icp_common.folders import make_private_folder
from icp_common.peer_credentials import PeerCredentials

logger = logging.getLogger(__name__)

PUBLIC_FOLDER_MODE: Final = 0o755
PUBLIC_SOCKET_MODE: Final = 0o777
ADMIN_FOLDER_MODE: Final = 0o750
ADMIN_SOCKET_MODE: Final = 0o770

_LIMITS: Final = ServerLimits.local(max_connections_per_peer=2048, max_receive_bytes=1024 * 1024)


class AdminPeerError(PeerCredentialError):
    """Somebody who may not administer this agent reached its admin socket."""


async def open_public_socket(path: Path, apis: Mapping[str, Any], health: Health) -> Server:
    """Serve workloads with `apis` by name: the folder is ours alone to write, everybody may connect to the socket.

    Raises:
        ConfigurationError: somebody else could put another socket in its place.
        OSError: the socket cannot be made, for instance because another agent listens there.
    """
    make_private_folder(path.parent, PUBLIC_FOLDER_MODE)
    server = Server((*apis.values(), health), limits=_LIMITS, interceptor=require_security_header, on_accept=identify)
    await server.listen_unix(path, mode=PUBLIC_SOCKET_MODE)
    logger.info("Starting agent APIs address=%s network=unix apis=%r", path, ", ".join(apis))
    return server


async def open_admin_socket(path: Path, health: Health) -> Server:
    """Serve the operator: what the folder's mode lets through must also be root or the agent's own user.

    Raises:
        ConfigurationError, OSError: as `open_public_socket`.
    """
    make_private_folder(path.parent, ADMIN_FOLDER_MODE)
    server = Server((health,), limits=_LIMITS, on_accept=identify_admin)
    await server.listen_unix(path, mode=ADMIN_SOCKET_MODE)
    logger.info("Starting Admin APIs address=%s network=unix", path)
    return server


def identify_admin(peer: Peer) -> PeerCredentials:
    """`Server.on_accept` of the admin socket.

    Raises:
        AdminPeerError: the caller is neither root nor the user this agent runs as.
    """
    credentials = identify(peer)
    if not may_administer(credentials.uid, os.geteuid()):
        credentials.close()
        logger.warning("Admin API refused pid=%d uid=%d", credentials.pid, credentials.uid)
        raise AdminPeerError(f"user {credentials.uid} may not administer this agent")
    return credentials


def may_administer(uid: int, own_uid: int) -> bool:
    """Whether a process of user `uid` is the operator of an agent of user `own_uid`."""
    return uid in (0, own_uid)
