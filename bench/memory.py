"""Resident memory of idle server and agent; upstream's too where SPIRE_SERVER_BIN and SPIRE_AGENT_BIN are set."""

import asyncio
import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench import _results
from demo import control_plane
from demo.processes import Processes

CLAIMS = {"server": 137.0, "agent": 56.0}  # MiB: upstream's own, fresh, with SQLite
_SETTLE, _SAMPLES = 10.0, 10


def resident(pid: int) -> float:
    """Return a process's resident memory in MiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


async def measure(server: list[str], agent: list[str]) -> dict[str, float]:
    """Start both with three entries, let them settle, and return the median of a few samples of each, in MiB."""
    folder = Path(tempfile.mkdtemp(prefix="bench-memory-"))
    folder.chmod(0o755)
    processes = Processes(folder)
    try:
        await control_plane.start(folder, processes, svid_ttl=3600, by_path=True, server=server, agent=agent)
        await asyncio.sleep(_SETTLE)
        samples: dict[str, list[float]] = {"server": [], "agent": []}
        for _ in range(_SAMPLES):
            for name, values in samples.items():
                values.append(resident(processes.pid(name)))
            await asyncio.sleep(0.5)
        return {name: statistics.median(values) for name, values in samples.items()}
    finally:
        await processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Print both, and whether ours stays below the claim."""
    ours = asyncio.run(measure([sys.executable, "-m", "icp_server"], [sys.executable, "-m", "icp_agent"]))
    upstream: dict[str, float] = {}
    if (server := os.environ.get("SPIRE_SERVER_BIN")) and (agent := os.environ.get("SPIRE_AGENT_BIN")):
        upstream = asyncio.run(measure([server], [agent]))
    for name, value in ours.items():
        beside = f"spire-{name} in this run: {upstream[name]:.1f} MiB" if upstream else ""
        _results.limit(f"resident memory of an idle {name}", value, "MiB", at_most=CLAIMS[name], sides=beside)


if __name__ == "__main__":
    raise SystemExit(_results.run("memory", main))
