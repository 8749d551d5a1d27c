"""What an agent's share of the entries costs to find: by the index, and by looking at every entry there is.

An agent has a hundred entries of its own, whatever the number of all. The index's cost must follow the hundred.
Also: bytes that an entry takes in the index, and what it costs to take over one that another server changed.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector
from bench import _results
from icp_server.domain.authorized_entries import EntryIndex

TD = TrustDomain("example.org")
OWN = 100


def agent(number: int) -> SpiffeID:
    """Name an agent."""
    return SpiffeID.from_path(TD, f"/spire/agent/join_token/{number}")


def entries(count: int) -> list[RegistrationEntry]:
    """Make entries, a hundred an agent."""
    return [
        RegistrationEntry(
            id=f"00000000-0000-0000-0000-{number:012}",
            spiffe_id=SpiffeID.from_path(TD, f"/workload/{number}"),
            parent_id=agent(number // OWN),
            selectors=(Selector("unix", f"uid:{number}"), Selector("unix", "gid:1000")),
        )
        for number in range(count)
    ]


def full_scan(known: list[RegistrationEntry], agent_id: SpiffeID) -> list[RegistrationEntry]:
    """Find the share of an agent that no alias matches, without an index: what hangs below it, level by level."""
    found: dict[str, RegistrationEntry] = {}
    parents = {agent_id}
    while parents:
        below = [entry for entry in known if entry.parent_id in parents and entry.id not in found]
        found.update((entry.id, entry) for entry in below)
        parents = {entry.spiffe_id for entry in below}
    return [found[entry_id] for entry_id in sorted(found)]


def seconds(act: Callable[[], object], times: int) -> float:
    """Time one call, of several."""
    began = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - began) / times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for count in options.entries:
        row(count, options.rounds)


def row(count: int, rounds: int) -> None:
    """Measure with so many entries, and print."""
    known = entries(count)
    gc.collect()
    tracemalloc.start()
    index = EntryIndex(TD, known)
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    mine = agent(count // OWN // 2)
    if list(index.authorized(mine, (), 0.0)) != full_scan(known, mine):
        raise SystemExit("the index and the scan differ")
    ours = min(seconds(lambda: index.authorized(mine, (), 0.0), 200) for _ in range(rounds))
    theirs = min(seconds(lambda: full_scan(known, mine), 1) for _ in range(rounds))
    change = min(seconds(lambda: index.put(known[count // 2]), 200) for _ in range(rounds))
    _results.plain(
        f"what an agent may have, of {count:,} entries: index ÷ full scan",
        f"1/{theirs / ours:.0f}; a change {change * 1e6:.2f} µs, {size:.0f} B an entry",
        f"{ours * 1e6:.1f} ÷ {theirs * 1e6:.0f} µs",
    )


if __name__ == "__main__":
    raise SystemExit(_results.run("authorized_entries", main))
