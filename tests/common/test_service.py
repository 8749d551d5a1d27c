import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Environ = Callable[[dict[str, str]], dict[str, str]]

DAEMON = """
import asyncio, sys
from icp_common import service

async def main(daemon):
    daemon.ready("all well")
    print("ready", flush=True)
    await daemon.stopped()
    print("stopping", flush=True)
    if sys.argv[1:] == ["stubborn"]:
        try:
            await asyncio.sleep(60)
        finally:
            print("cancelled", flush=True)
    return 3

sys.exit(service.run(main))
"""


@contextmanager
def daemon(environ: dict[str, str], *arguments: str, code: str = DAEMON) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environ
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_good_order(import_path: Environ, number: signal.Signals) -> None:
    with daemon(import_path(dict(os.environ))) as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert out == "stopping\n"
        assert process.returncode == 3


def test_a_second_signal_stops_at_once(import_path: Environ) -> None:
    with daemon(import_path(dict(os.environ)), "stubborn") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert out == "cancelled\n"
        assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(import_path: Environ, short_path: Path, abstract: bool) -> None:
    address = f"\0{short_path}" if abstract else str(short_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(address)
        notified.settimeout(60)
        environ = import_path({**os.environ, "NOTIFY_SOCKET": address.replace("\0", "@")})
        with daemon(environ) as process:
            assert notified.recv(1000) == b"READY=1\nSTATUS=all well"
            process.send_signal(signal.SIGTERM)
            assert notified.recv(1000) == b"STOPPING=1"
            process.communicate(timeout=60)


@pytest.mark.parametrize("address", ["/none/n", "vsock:2:1", "relative", "@" + "x" * 500])
def test_a_wrong_notify_socket_changes_nothing(import_path: Environ, address: str) -> None:
    with daemon(import_path({**os.environ, "NOTIFY_SOCKET": address})) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 3


def test_an_error_of_main_is_not_hidden(import_path: Environ) -> None:
    code = "from icp_common import service\nasync def main(daemon):\n    raise ValueError('why')\nservice.run(main)\n"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=import_path(dict(os.environ)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "ValueError: why" in ended.stderr


SECRETIVE = """
import ctypes, os, resource, sys
from icp_common import service
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # changing the user hid memory already
if sys.argv[1] == "hidden":
    async def main(daemon):
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
        assert os.umask(0) & 0o027 == 0o027
        print("ready", flush=True)
        await daemon.stopped()
        return 0
    service.run(main)
else:
    print("ready", flush=True)
    sys.stdin.read()
"""

SPY = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
for name in ("environ", "maps"):
    try:
        open(f"/proc/{sys.argv[1]}/{name}", "rb").close()
        print("opened")
    except PermissionError:
        print("refused")
"""


@pytest.mark.parametrize(("how", "answer"), [("hidden", "refused"), ("plain", "opened")])
def test_other_processes_of_the_user_cannot_read_memory(import_path: Environ, how: str, answer: str) -> None:
    environ = import_path(dict(os.environ))
    with daemon(environ, how, code=SECRETIVE) as process:
        spied = subprocess.run(
            [sys.executable, "-c", SPY, str(process.pid)], capture_output=True, text=True, check=True, timeout=60
        )
    assert spied.stdout.split() == [answer] * 2
