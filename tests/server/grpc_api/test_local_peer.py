"""Who may use the admin socket, by what the kernel says of them."""

import os
import socket
from pathlib import Path

import pytest

from icp_server.domain.errors import PermissionDenied
from icp_server.grpc_api.local_peer import LocalPeer, check_admitted

OWNER, GROUP = 1500, 1600


@pytest.mark.parametrize(
    "peer",
    [
        LocalPeer(pid=1, uid=0, gid=0),
        LocalPeer(pid=1, uid=OWNER, gid=99),
        LocalPeer(pid=1, uid=7, gid=GROUP),
        LocalPeer(pid=1, uid=7, gid=7, groups=frozenset({8, GROUP})),
        LocalPeer(pid=0, uid=OWNER, gid=7),  # in another pid namespace, as a sidecar is
    ],
)
def test_root_the_owner_and_the_group_are_let_in(peer: LocalPeer) -> None:
    check_admitted(peer, owner=OWNER, group=GROUP)


@pytest.mark.parametrize(
    "peer",
    [
        LocalPeer(pid=1, uid=7, gid=7),
        LocalPeer(pid=1, uid=GROUP, gid=OWNER),
        LocalPeer(pid=1, uid=65534, gid=65534, groups=frozenset({65534})),
    ],
)
def test_others_are_not(peer: LocalPeer) -> None:
    with pytest.raises(PermissionDenied, match=f"user {peer.uid} "):
        check_admitted(peer, owner=OWNER, group=GROUP)


def test_the_kernel_says_who_is_there() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = LocalPeer.of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert peer.groups == frozenset(os.getgroups())
    assert peer.path == str(Path("/proc/self/exe").readlink())


def test_a_tcp_socket_names_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as tcp:
        # Linux answers with "no process, no user" instead of an error; nobody is let in by that.
        try:
            peer = LocalPeer.of(tcp)
        except OSError:
            return
    with pytest.raises(PermissionDenied):
        check_admitted(peer, owner=OWNER, group=GROUP)
