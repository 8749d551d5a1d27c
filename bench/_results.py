"""What a benchmark found, kept as JSON under .cache/bench: the page of benchmarks is made of these files.

Each benchmark runs in a process of its own and says `note` for every line it prints; `run` writes them at its end.
"""

from __future__ import annotations

import json
import os
import platform
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "bench"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a table: what was measured, the two sides of it, what came out, and what was claimed of it."""

    what: str
    sides: str
    figure: str
    claim: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """All that one run of a benchmark found, when and where; `facts` are single figures for tables of their own."""

    name: str
    date: str
    seconds: float
    load: float
    machine: str
    findings: tuple[Finding, ...]
    facts: Mapping[str, float]

    def to_json(self) -> str:
        """Return what `parse` reads."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: str) -> Result:
        """Read what `to_json` wrote."""
        read: dict[str, Any] = json.loads(text)
        return cls(**{**read, "findings": tuple(Finding(**each) for each in read["findings"])})


_findings: list[Finding] = []
_facts: dict[str, float] = {}


def note(finding: Finding) -> None:
    """Have a line in the result of this process."""
    _findings.append(finding)


def fact(name: str, value: float) -> None:
    """Have a single figure in the result of this process."""
    _facts[name] = value


def limit(what: str, value: float, unit: str, *, at_most: float, sides: str = "") -> bool:
    """Print and note a figure that is no ratio, and whether it keeps to its claim."""
    verdict = "met" if value <= at_most else "NOT met"
    print(f"{what}: {value:.4g} {unit} (claim <= {at_most:g}: {verdict})")
    note(Finding(what, sides, f"{value:.4g} {unit}", f"≤ {at_most:g} {unit}".strip(), verdict))
    return verdict == "met"


def plain(what: str, figure: str, sides: str = "") -> None:
    """Print and note a figure of which nothing is claimed."""
    print(f"{what}: {figure}" + (f" ({sides})" if sides else ""))
    note(Finding(what, sides, figure))


def run(name: str, main: Callable[[], int | None]) -> int:
    """Run a benchmark and write down what it noted; return its status. One that raises writes nothing."""
    begun, load = time.monotonic(), os.getloadavg()[0]
    status = main() or 0
    openssl = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    result = Result(
        name=name,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=round(time.monotonic() - begun, 1),
        load=round(load, 1),
        machine=f"{os.cpu_count()} CPUs, CPython {platform.python_version()}, {openssl}",
        findings=tuple(_findings),
        facts=_facts,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(result.to_json())
    return status


def read(folder: Path = FOLDER) -> dict[str, Result]:
    """Return the newest result of each benchmark there is one of."""
    return {file.stem: Result.parse(file.read_text()) for file in sorted(folder.glob("*.json"))}
