"""Our column of the comparison is filled by tests that are there, and says what is missing where it is not yes."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/comparison.md"
_LINK = re.compile(r"\[[^\]]+\]\(\.\./(tests/[\w/]+\.py)#(\w+)\)")


def rows() -> list[list[str]]:
    """Return the cells of each row of the last table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head = next(index for index, line in enumerate(lines) if line.startswith("| feature |"))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[head + 1 :]]


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of a file's tests, by reading it."""
    tree = ast.parse((ROOT / file).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_the_page_has_all_rows() -> None:
    assert len(rows()) == 67
    assert len({row[0] for row in rows()}) == 67
    assert all(len(row) == 7 for row in rows())
    assert all(cell in ("yes", "partly", "no", "—") for row in rows() for cell in row[1:6])


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_cell_of_ours_is_shown_by_tests_or_says_what_is_missing(row: list[str]) -> None:
    feature, ours = row[0], row[6]
    verdict = re.match(r"\*\*(yes|partly|no)\*\*(:?)", ours)
    assert verdict, feature
    links = _LINK.findall(ours)
    assert len(links) == ours.count("]("), "each link is one to a test"
    if verdict[1] != "yes":
        assert verdict[2], f"{feature}: say what is missing"
    if verdict[1] != "no":
        assert links, f"{feature}: no test shows it"
    for file, test in links:
        assert test in names_in(file), f"{feature}: {file} has no {test}"
