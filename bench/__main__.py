"""Run every benchmark one after the other; each prints what it compares, its ratio with an interval, and a verdict.

Each also leaves a JSON file in .cache/bench; `--write-docs` makes the tables of docs/benchmarks.md from them.
"""

import argparse
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

from bench import _page, _results


def main() -> int:
    """Run each as a process of its own, so that none warms another up; return how many failed."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"all of {', '.join(names)} unless named")
    arguments.add_argument("--write-docs", action="store_true", help="then make the tables of the documentation")
    arguments.add_argument("--only-docs", action="store_true", help="run nothing, make the tables of what is there")
    options = arguments.parse_args()
    if unknown := set(options.names) - set(names):
        arguments.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    failed, begun = 0, time.monotonic()
    for name in () if options.only_docs else options.names or names:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0
    if not options.only_docs:
        print(f"\n{failed} with a claim not met, in {time.monotonic() - begun:.0f} s")
    if options.write_docs or options.only_docs:
        _page.write(_results.read())
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
