"""Run every benchmark one after the other; each prints what it compares, its ratio with an interval, and a verdict."""

import pkgutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run each as a process of its own, so that none warms another up; return how many failed."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))
    failed = 0
    for name in names:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
