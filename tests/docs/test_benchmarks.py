"""Each benchmark has its table on the page, as `python -m bench --write-docs` makes it; timing is not judged."""

import pkgutil
import re
from pathlib import Path

import pytest

import bench
from bench import _page
from bench._paired import Comparison
from bench._results import Finding, Result

BENCHMARKS = {m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_")}
VERDICTS = {"met", "NOT met", "undecided", "—"}
INTERVAL = re.compile(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]")

RESULT = Result(
    name="handshake",
    date="2026-01-02 03:04 UTC",
    seconds=12.3,
    load=0.5,
    machine="2 CPUs, CPython 3.11.7, OpenSSL 3.0.19",
    findings=(
        Finding("handshake CPU ÷ stdlib", "102 ÷ 100 µs", "1.020 [1.010, 1.025]", "≤ 1.03", "met"),
        Finding("sources", "", "1 threads"),
    ),
    facts={"p50 100, plain TCP": 40.4, "p50 100, in the process": 1234.6, "connections, in the process": 400.0},
)


def sections(page: Path) -> dict[str, str]:
    return {found[2]: found[3] for found in _page._SECTION.finditer(page.read_text())}


def rows(section: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_benchmark_has_its_table() -> None:
    page, sidecar = _page.PAGES
    assert sorted(sections(page)) == sorted(BENCHMARKS)
    assert set(sections(sidecar)) == {"sidecar"}


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_tables_are_well_formed(name: str) -> None:
    section = sections(_page.PAGES[0])[name]
    found = rows(section)
    assert found, "python -m bench --write-docs"
    for row in found:
        _, _, _, claim, verdict = row
        assert verdict in VERDICTS, row
        assert (claim == "none") == (verdict == "—"), row
    assert f"`python -m bench.{name}`, 20" in section, "says when and on what it was measured"


def test_ratios_have_intervals() -> None:
    section = sections(_page.PAGES[0])["envoy_pair"]
    ratios = [row for row in rows(section) if "÷" in row[1]]
    assert len(ratios) >= 20
    assert all(INTERVAL.fullmatch(row[2]) for row in ratios)


def test_a_result_is_read_as_it_was_written() -> None:
    assert Result.parse(RESULT.to_json()) == RESULT


def test_only_sections_with_a_result_change() -> None:
    page = "before\n<!-- bench: handshake -->\nold\n<!-- /bench -->\n<!-- bench: guard -->\nkept\n<!-- /bench -->\n"
    made = _page.rewrite(page, {"handshake": RESULT})
    assert "old" not in made
    assert made.startswith("before\n")
    assert made.endswith("<!-- bench: guard -->\nkept\n<!-- /bench -->\n")
    assert "| handshake CPU ÷ stdlib | 102 ÷ 100 µs | 1.020 [1.010, 1.025] | ≤ 1.03 | met |" in made
    assert "| sources | — | 1 threads | none | — |" in made
    assert "2026-01-02 03:04 UTC" in made
    assert _page.rewrite(made, {"handshake": RESULT}) == made


def test_the_table_beside_sidecars_has_what_was_measured() -> None:
    made = _page.sidecar(RESULT)
    assert "| p50 of a request of 100 B on an open connection | 40 µs |  |  |  | 1,235 µs |  |" in made
    assert "| new connections a CPU-second, full handshakes |  |  |  |  | 400 |  |" in made
    assert "failed" not in made, "a row without any figure is left out"


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [((1.0, 1.01, 1.02), "met"), ((1.2, 1.21, 1.3), "NOT met"), ((1.0, 1.1, 1.2), "undecided")],
)
def test_a_claim_is_judged_by_the_whole_interval(ours: tuple[float, ...], verdict: str) -> None:
    assert Comparison("", ours, (1.0,) * 3).verdict(at_most=1.05) == verdict
    low = Comparison("", tuple(1 / each for each in ours), (1.0,) * 3)
    assert low.verdict(at_least=1 / 1.05) == verdict
