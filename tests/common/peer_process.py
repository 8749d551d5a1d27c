"""Real processes at the other end of a real Unix socket, for tests of who they are. Loaded by path, as tests are no
package.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 30.0

# Connects, tells so, then obeys pieces of Python (one a line, quoted), answering each with a line.
_CHILD = """
import ast, ctypes, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
os.set_inheritable(s.fileno(), True)
print("connected", flush=True)
for line in sys.stdin:
    exec(ast.literal_eval(line))
    print("done", flush=True)
"""


@dataclass
class Peer:
    """A child process that connected to us and does what it is told."""

    process: subprocess.Popen[str]
    path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, code: str) -> None:
        """Let the child run some Python, and wait until it has."""
        self._send(code)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"

    def become(self, program: str, *arguments: str) -> None:
        """Let the child execute another program, with its connection open, and wait until it runs."""
        link = Path(f"/proc/{self.pid}/exe")
        before = link.stat()
        self._send(f"os.execv({program!r}, {[program, *arguments]!r})")
        wait_until(lambda: not os.path.samestat(link.stat(), before))

    def end(self) -> None:
        """Kill the child and reap it."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def _send(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(ascii(code) + "\n")
        self.process.stdin.flush()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        listener.settimeout(PATIENCE)
        yield listener


@contextmanager
def connected_peer(path: Path, *, command: tuple[str, ...] = ()) -> Iterator[Peer]:
    """A child that has connected to `path`; `command` is what to start the interpreter with (`unshare …`)."""
    with subprocess.Popen(
        [*command, sys.executable, "-c", _CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        peer = Peer(process, path)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield peer
        finally:
            peer.end()


def can_unshare(*options: str) -> bool:
    """Whether this machine lets us make namespaces."""
    try:
        return subprocess.run(["unshare", *options, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
