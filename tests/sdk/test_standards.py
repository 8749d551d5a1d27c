"""docs/standards.md names functions, tests and vectors; each of them must exist."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "standards.md"
HEADER = "| clause | rule | kept by | shown by |"
QUOTED = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[str, str, str]]:
    """(where, kept by, shown by) of every row below a table head of the page's own form."""
    found: list[tuple[str, str, str]] = []
    inside = False
    for number, line in enumerate(PAGE.read_text("utf-8").splitlines(), 1):
        if line == HEADER:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == 4, f"line {number}: four cells"
            found.append((f"line {number}", cells[2], cells[3]))
    return found


def vector_names() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "tests" / "vectors").glob("*.json"):
        document = json.loads(path.read_text("utf-8"))
        names |= {vector["name"] for kind in ("good", "wrong") for vector in document.get(kind, ())}
    return names


def names_of_tests() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names |= set(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), flags=re.MULTILINE))
    return names


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


def test_the_page_has_rows() -> None:
    assert len(rows()) >= 95


@pytest.mark.parametrize(("where", "kept_by", "shown_by"), rows())
def test_what_a_row_names_exists(where: str, kept_by: str, shown_by: str) -> None:
    functions = QUOTED.findall(kept_by)
    assert functions, f"{where} names no function"
    for function in functions:
        assert callable(resolve(function)), function
    evidence = QUOTED.findall(shown_by)
    assert evidence, f"{where} names no test"
    missing = set(evidence) - vector_names() - names_of_tests()
    assert not missing, f"{where} names what does not exist: {missing}"


def test_every_vector_has_a_name_of_its_own_in_its_file() -> None:
    for path in (ROOT / "tests" / "vectors").glob("*.json"):
        document = json.loads(path.read_text("utf-8"))
        for kind in ("good", "wrong"):
            names = [vector["name"] for vector in document.get(kind, ())]
            assert len(names) == len(set(names)), path
            assert all(name.startswith(f"{kind}_") for name in names), path
