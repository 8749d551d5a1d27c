"""Real control groups and, where it is installed, a real Docker Engine: no answer here is made up."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp_agent.peer_tracker import attest_peer
from icp_agent.workloadattestors.cgroups import find_pod_container, parse_cgroups
from icp_agent.workloadattestors.docker import DockerAttestor, DockerSettings, ForgedContainerError
from icp_agent.workloadattestors.unix import UnixAttestor
from icp_common.peer_credentials import PeerCredentials

pytestmark = pytest.mark.anyio

UID, ID = "2c48913c-b29f-11e7-9350-020968147796", "a1" * 32
_HOST = ("bin", "etc", "lib", "lib32", "lib64", "opt", "root", "sbin", "usr", "var", "work")


@pytest.fixture
def control_group() -> Iterator[Callable[[str, int], None]]:
    """Make a control group of this path, and put a process into it."""
    root = next((path for path in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if _is_v2(path)), None)
    made: list[Path] = []

    def enter(path: str, pid: int) -> None:
        if root is None:
            pytest.skip("no control groups can be made here")
        folder = root
        try:
            for name in path.split("/"):
                folder = folder / name
                if not folder.exists():
                    folder.mkdir()
                    made.append(folder)
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            pytest.skip(f"no control groups can be made here: {error.strerror}")

    yield enter
    for folder in reversed(made):
        for _ in range(500):
            try:
                folder.rmdir()
                break
            except OSError:  # a process of it is still going
                for pid in (folder / "cgroup.procs").read_text().split():
                    (folder.parent / "cgroup.procs").write_text(pid)
                time.sleep(0.01)


def _is_v2(path: Path) -> bool:
    return (path / "cgroup.procs").exists() and (path / "cgroup.controllers").exists()


def test_the_kernel_tells_of_a_pod(credentials: PeerCredentials, control_group: Callable[[str, int], None]) -> None:
    control_group(f"kubepods/burstable/pod{UID}/{ID}", credentials.pid)
    found = find_pod_container(parse_cgroups(credentials.read_cgroups()))
    assert found is not None
    assert (found.pod_uid, found.id) == (UID, ID)


@pytest.fixture(scope="module")
def docker() -> Iterator[Callable[..., str]]:
    """A Docker Engine of our own; runs `docker` against it."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None or os.geteuid() != 0:
        pytest.skip("no Docker Engine that could be started here")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="dk") as name:
        folder = Path(name)
        settings = {
            "data-root": str(folder / "root"),
            "exec-root": str(folder / "run"),
            "pidfile": str(folder / "pid"),
            "hosts": [f"unix://{folder}/docker.sock"],
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "bridge": "none",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        }
        (folder / "daemon.json").write_text(json.dumps(settings))
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(["dockerd", "--config-file", folder / "daemon.json"], stdout=log, stderr=log) as daemon,
        ):

            def run(*arguments: str, **options: Any) -> str:
                command = ["docker", "-H", f"unix://{folder}/docker.sock", *arguments]
                return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout.strip()

            try:
                end = time.monotonic() + 60
                while not _answers(run):
                    if daemon.poll() is not None or time.monotonic() > end:
                        pytest.skip(f"no Docker Engine that could be started here: {_last(folder / 'log')}")
                    time.sleep(0.05)
                with tempfile.TemporaryDirectory() as empty:
                    subprocess.run(["tar", "-C", empty, "-cf", folder / "empty.tar", "."], check=True)
                run("import", str(folder / "empty.tar"), "empty:1")
                run.socket = str(folder / "docker.sock")  # type: ignore[attr-defined]
                yield run
            finally:
                daemon.terminate()
                daemon.wait(60)


def _answers(run: Callable[..., str]) -> bool:
    try:
        run("version")
    except subprocess.CalledProcessError:
        return False
    return True


def _last(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-300:]


def container_command(docker: Any, short_path: Path) -> tuple[str, ...]:
    """Starts a program of the host's within a container that sees our socket, and its own processes alone."""
    folders = [f"/{name}" for name in _HOST if Path(f"/{name}").exists()]
    folders += [folder for folder in (sys.prefix, sys.base_prefix) if not folder.startswith(tuple(folders))]
    mounts = [option for folder in (*folders, str(short_path)) for option in ("-v", f"{folder}:{folder}")]
    options = ("--network", "none", "--label", "app=web", "-e", "COLOR=red", *mounts)
    return ("docker", "-H", f"unix://{docker.socket}", "run", "-i", "--rm", *options, "empty:1")


async def test_a_caller_in_a_container_over_a_mounted_socket(
    docker: Any, short_path: Path, listener: socket.socket, start_peer: Callable[..., Any]
) -> None:
    short_path.chmod(0o755)
    with start_peer(*container_command(docker, short_path)):
        connection, _ = listener.accept()
        with connection:
            peer = PeerCredentials.of(connection)
            attestors = [DockerAttestor(DockerSettings(docker=docker.socket)), UnixAttestor(discover_path=True)]
            selectors = {str(selector) for selector in await attest_peer(peer, attestors, deadline=60)}
    assert {"docker:label:app:web", "docker:env:COLOR=red", "docker:image_id:empty:1", "unix:uid:0"} <= selectors
    assert any(selector.startswith("docker:image_config_digest:sha256:") for selector in selectors)
    assert not any(selector.startswith("unix:path:") for selector in selectors)  # paths there are not ours


async def test_a_process_in_a_control_group_named_like_a_container(
    docker: Any, credentials: PeerCredentials, control_group: Callable[[str, int], None]
) -> None:
    id_ = docker(
        "run", "-d", "--network", "none", *(o for n in _HOST if Path(f"/{n}").exists() for o in ("-v", f"/{n}:/{n}")),
        "empty:1", "/bin/sleep", "600",
    )  # fmt: skip
    attestor = DockerAttestor(DockerSettings(docker=docker.socket))
    try:
        control_group(f"mine.service/docker-{id_}.scope", credentials.pid)
        with pytest.raises(ForgedContainerError):
            await attestor.attest(credentials)
    finally:
        docker("rm", "-f", id_)
