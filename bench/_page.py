"""Tables of the documentation from results: each stands between two comments, and only those with a result change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bench._results import Result

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = (DOCS / "benchmarks.md", DOCS / "migrate/sidecar.md")
_SECTION = re.compile(r"(<!-- bench: (\S+) -->\n)(.*?)(<!-- /bench -->)", re.DOTALL)

_VARIANTS = ("Envoy pair, HTTP", "Envoy pair, TCP only", "stdlib `ssl`", "in the process", "in the process, uvloop")
_SIDECAR = (
    ("p50 of a request of 100 B on an open connection", "µs", "p50 100", 0),
    ("the same, 64 KiB", "µs", "p50 65536", 0),
    ("CPU for a request of 100 B, 16 connections", "ms", "cpu 100", 3),
    ("the same, 64 KiB", "ms", "cpu 65536", 3),
    ("new connections a CPU-second, full handshakes", "", "connections", 0),
    ("the same, resumed", "", "resumed", 0),
    ("requests failed over 20 rotations of SVIDs and 3 of the CA", "", "failed", 0),
    ("of so many", "", "requests", 0),
    ("memory for one workload, resident", "MiB", "memory", 1),
)


def table(result: Result) -> str:
    """Return the table of one benchmark, and a line that says where it comes from."""
    lines = ["| what | the two sides | ratio or figure | claim | |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.what} | {each.sides or '—'} | {each.figure} | {each.claim or 'none'} | {each.verdict or '—'} |"
        for each in result.findings
    ]
    return "\n".join([*lines, "", _origin(result), ""])


def sidecar(result: Result) -> str:
    """Return the table beside sidecars: figures of every way to do it, medians of the run."""
    facts = result.facts
    lines = ["| | plain TCP | " + " | ".join(_VARIANTS) + " |", "|" + "---|" * (len(_VARIANTS) + 2)]
    for what, unit, key, digits in _SIDECAR:
        cells = [
            f"{facts[f'{key}, {each}']:,.{digits}f}{unit and ' '}{unit}" if f"{key}, {each}" in facts else ""
            for each in ("plain TCP", *_VARIANTS)
        ]
        if any(cells):
            lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _origin(result), ""])


def _origin(result: Result) -> str:
    return (
        f"`python -m bench.{result.name}`, {result.date}, {result.machine}; load of the machine before it "
        f"{result.load:.1f}; took {result.seconds:.0f} s."
    )


def rewrite(text: str, results: Mapping[str, Result]) -> str:
    """Return a page with the sections of these results made anew; the others stay."""

    def made(found: re.Match[str]) -> str:
        name = found[2]
        render: Callable[[Result], str] = sidecar if name == "sidecar" else table
        result = results.get("envoy_pair" if name == "sidecar" else name)
        return found[0] if result is None else f"{found[1]}\n{render(result)}\n{found[4]}"

    return _SECTION.sub(made, text)


def sections(text: str) -> list[str]:
    """Return the names of a page's sections."""
    return [name for _, name, _, _ in _SECTION.findall(text)]


def write(results: Mapping[str, Result]) -> None:
    """Put results into the pages."""
    for page in PAGES:
        page.write_text(rewrite(page.read_text(), results))
