"""docs/threat-model.md names functions and tests; each of them must exist, and each closed line must have both."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
HEADER = "| # | attack | what closes it | kept by | shown by | what remains |"
QUOTED = re.compile(r"`([^`]+)`")
LINES = range(1, 29)
CLOSED = {*range(1, 5), 8, *range(10, 14), *range(15, 25), 27, 28}
STATES = ("**Closed", "**In part", "**Not built yet")


@dataclass(frozen=True)
class Line:
    """One attack of the page."""

    number: int
    attack: str
    closes: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]
    remains: str


def cells_below(header: str) -> list[list[str]]:
    found: list[list[str]] = []
    inside = False
    for text in PAGE.read_text("utf-8").splitlines():
        if text == header:
            inside = True
        elif not text.startswith("|"):
            inside = False
        elif inside and not text.startswith("|---"):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", text)[1:-1]])
    return found


def lines() -> list[Line]:
    return [
        Line(int(number), attack, closes, tuple(QUOTED.findall(functions)), tuple(QUOTED.findall(tests)), remains)
        for number, attack, closes, functions, tests, remains in cells_below(HEADER)
    ]


def every_test_named() -> set[str]:
    held = (test for cells in cells_below("| attack | shown by |") for test in QUOTED.findall(cells[1]))
    return {*held, *(test for line in lines() for test in line.tests)}


def resolve(dotted: str) -> object:
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            value = getattr(value, name)
        return value
    raise AssertionError(f"there is no module {dotted}")


@cache
def names_in(path: Path) -> frozenset[str]:
    """Every test of a file, those of its classes as `Class::test`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        within = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + each.name for each in within if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(found)


def test_every_attack_has_its_line() -> None:
    assert [line.number for line in lines()] == list(LINES)
    assert len(cells_below("| attack | shown by |")) == 2


@pytest.mark.parametrize("line", lines(), ids=lambda line: str(line.number))
def test_a_line_is_whole(line: Line) -> None:
    assert line.closes.startswith(STATES)
    assert min(len(line.attack), len(line.closes), len(line.remains)) > len("None.")
    for function in line.functions:
        assert callable(resolve(function)), function
    if line.number in CLOSED:
        assert line.closes.startswith("**Closed")
        assert line.functions, "no function closes it"
        assert line.tests, "no test performs the attack"


@pytest.mark.parametrize("named", sorted(every_test_named()))
def test_a_test_that_is_named_exists(named: str) -> None:
    path, _, name = named.partition("::")
    assert name.rpartition("::")[2].startswith("test_")
    assert (ROOT / path).is_file(), path
    assert name in names_in(ROOT / path), named
