"""The table framework × row of the contract: as its tests are collected (a page), and as they went (a terminal)."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration_contract import rows
from integration_contract.pair import Pair

LOAD = "no_failure_through_rotations"
# The rows in the order of the columns, in words.
WORDS = {
    "connects": "connects, again and again",
    "reads_the_peers_id": "the peer's SPIFFE ID can be read",
    "new_certificate_on_the_next_connection": "after a rotation the next connection presents the new certificate",
    "new_root_is_honoured": "a new root is honoured",
    "removed_root_is_refused": "a removed root is refused",
    "wrong_id_is_refused_before_an_application_byte": "a wrong ID is refused before a byte of the application",
    "cross_domain_forgery_is_refused": "another trust domain's authority cannot name our workloads",
    "no_certificate_is_refused": "a peer without a certificate, or without an ID in it, is refused",
    "the_hook_hears_the_reason": "the operator's hook hears who was refused and why, the peer does not",
    "works_on_after_a_refusal": "works on after a refusal",
    "leaves_nothing_behind": "leaves no thread, task, descriptor or file",
    LOAD: "no call fails through 20 rotations under load",
}
# Pages of integrations that hold no connection of their own: whose contract covers them.
COVERED = {
    "asgi": "middleware; the servers below it keep the contract",
    "celery": "a way to start sources in worker processes; what connects there is a client above",
    "opentelemetry": "observes, and decides nothing",
    "prometheus": "observes, and decides nothing",
    "py-spiffe": "hands sources on; what connects with them is above",
    "trusted-front": "middleware behind a server that keeps the contract",
}
_UNNAMED = {"mcp": "asyncio", "starlette": "asyncio"}  # what tests without variants run on, where that is no thread
_SIDES = {"test_client_contract": "client", "test_server_contract": "server", "test_rotation_under_load": "both"}
_NEAREST = re.compile(r"\b(test_\w+)\.(test_\w+)")


@dataclass(frozen=True, order=True)
class Line:
    """One line of the table: what is under test, on which side, and the file that tests it."""

    framework: str
    side: str
    file: str


@dataclass
class Cell:
    """One row of the contract for one line: its outcome on each variant, and why a variant cannot."""

    outcomes: dict[str, str] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)

    @property
    def verdict(self) -> str:
        """The worst of the outcomes."""
        return max(self.outcomes.values(), key=("passed", "cannot", "skipped", "failed", "error").index)


Table = dict[Line, dict[str, Cell]]


def framework_of(file: str) -> str:
    """Return the name that an integration's page has, from its tests' file."""
    path = Path(file)
    name = path.parent.name if path.name == "test_clients.py" else path.stem.removeprefix("test_")
    return name.removesuffix("_contract")


def filled(results: Iterable[tuple[str, str, str]]) -> Table:
    """Put (ID of a test, outcome, reason) into their cells; tests outside of the contract are passed over."""
    table: Table = defaultdict(lambda: defaultdict(Cell))
    load: list[tuple[str, str, str, str]] = []
    for node, outcome, reason in results:
        file, _, test = node.partition("::")
        name, _, parameters = test.rstrip("]").partition("[")
        side = _SIDES.get(name)
        if side is None:
            continue
        if reason.startswith("cannot: "):
            outcome, reason = "cannot", reason.removeprefix("cannot: ")
        if side == "both":
            load.append((file, parameters, outcome, reason))
            continue
        row, _, variant = parameters.partition("-")
        _put(table, Line(framework_of(file), side, file), row, variant, outcome, reason)
    for file, variant, outcome, reason in load:  # which concerns both sides, where both are under test
        lines = [line for line in table if line.file == file] or [Line(framework_of(file), "both", file)]
        for line in lines:
            _put(table, line, LOAD, variant, outcome, reason)
    return table


def _put(table: Table, line: Line, row: str, variant: str, outcome: str, reason: str) -> None:
    cell = table[line][row]
    cell.outcomes[variant] = outcome
    if reason:
        cell.reasons.add(reason)


def planned(items: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
    """Give what collected tests will be, if nothing fails: passed, or cannot with the pair's reason."""
    for item in items:
        node = item.nodeid
        name = node.partition("::")[2].partition("[")[0]
        if name not in _SIDES:
            continue
        row = LOAD if name == "test_rotation_under_load" else node.partition("[")[2].rstrip("]").partition("-")[0]
        reasons = {pair.cannot[row] for pair in _pairs(item) if row in pair.cannot}
        yield node, "passed", f"cannot: {reasons.pop()}" if reasons else ""


def _pairs(item: Any) -> Iterator[type[Pair]]:
    """Give the classes of pairs that a test, or a fixture it takes, names."""
    functions = [item.function]
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        functions += [each.func for each in definitions if each.func.__module__ == item.function.__module__]
    for function in functions:
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, type) and issubclass(value, Pair):
                yield value
    for value in getattr(getattr(item, "callspec", None), "params", {}).values():
        if isinstance(value, Pair) or (isinstance(value, type) and issubclass(value, Pair)):
            yield value if isinstance(value, type) else type(value)


def printed(table: Table) -> Iterator[str]:
    """Give the lines of the table for a terminal, with a legend, and each reason why a cell cannot."""
    for number, (row, words) in enumerate(WORDS.items(), start=1):
        yield f"{number:3}  {row}: {words}"
    yield ""
    yield f"{'':24}" + "".join(f"{number:>8}" for number in range(1, len(WORDS) + 1))
    for line in sorted(table):
        cells = [_word(table[line].get(row)) for row in WORDS]
        yield f"{f'{line.framework} {line.side}':24}" + "".join(f"{cell:>8}" for cell in cells)
    for line, row, reason in _reasons(table):
        yield f"{line.framework} {line.side}, {row}: {reason}"


def faults(table: Table) -> list[str]:
    """Name the cells that neither passed nor say why they cannot, and those that are not there."""
    found = []
    for line in sorted(table):
        for row in WORDS:
            cell = table[line].get(row)
            if cell is None or cell.verdict not in ("passed", "cannot"):
                found.append(f"{line.framework} {line.side}, {row}: {_word(cell)}")
    return found


def _word(cell: Cell | None) -> str:
    if cell is None:
        return "MISSING"
    return f"ok {len(cell.outcomes)}" if cell.verdict == "passed" else cell.verdict.replace("passed", "ok")


def _reasons(table: Table) -> Iterator[tuple[Line, str, str]]:
    for line in sorted(table):
        for row in WORDS:
            for reason in sorted(table[line][row].reasons if row in table[line] else ()):
                yield line, row, reason


def page(table: Table) -> str:
    """Return the page of the documentation, from what is collected: which tests there are, not how they went."""
    text = [
        "# The contract, framework by framework",
        "",
        _INTRODUCTION.replace("\n", " "),
        "",
        "| | row |",
        "|---|---|",
    ]
    text += [f"| {number} | {words} |" for number, words in enumerate(WORDS.values(), start=1)]
    text += ["", "## The table", "", _TABLE.replace("\n", " "), ""]
    text += [f"| framework | as | on | {' | '.join(str(number + 1) for number in range(len(WORDS)))} |"]
    text += ["|---|---|---|" + "---|" * len(WORDS)]
    for line in sorted(table):
        every = list(table[line].get("connects", table[line].get(LOAD, Cell())).outcomes)
        cells = [_shown(cell, every) if (cell := table[line].get(row)) else "" for row in WORDS]
        name = f"[{line.framework}]({_page_of(line.framework)})"
        side = f"[{line.side}](../../{line.file})"
        on = ", ".join(filter(None, every)) or _UNNAMED.get(line.framework, "threads")
        text.append(f"| {name} | {side} | {on} | {' | '.join(cells)} |")
    text += ["", "## What cannot be", ""]
    text += ["| framework | row | why, and the nearest guarantee |", "|---|---|---|"]
    for line, row, reason in _reasons(table):
        text.append(f"| {line.framework}, {line.side} | {WORDS[row]} | {_linked(reason, line.file)} |")
    text += ["", "## What has no line", ""]
    text += [f"- [{name}]({name}.md): {why}." for name, why in COVERED.items()]
    return "\n".join(text) + "\n"


_INTRODUCTION = """\
Each integration is held to the same rows, on every event loop it supports, as client and as server, over real sockets
and real servers. `make test-integrations` runs them and prints this table as it went; a cell that is neither passed nor
explained fails it. This page is written from the tests there are (the same command writes it), and a test compares the
two."""
_TABLE = """\
*Yes*: a test shows it on each of what stands under *on*, or on so many of them as the number says. *Cannot*: the stack
cannot do it; the reason is below. The side under test is a link to its tests."""


def _shown(cell: Cell, every: list[str]) -> str:
    if cell.verdict != "passed":
        return "cannot"
    return "yes" if len(cell.outcomes) >= len(every) else f"yes ({len(cell.outcomes)})"


def _page_of(framework: str) -> str:
    return {"starlette": "fastapi"}.get(framework, framework) + ".md"


def _linked(reason: str, file: str) -> str:
    """Make a link of the test that a reason names."""
    folder = Path(file).parent.as_posix()
    return _NEAREST.sub(lambda match: f"[`{match[2]}`](../../{folder}/{match[1]}.py#{match[2]})", reason)


assert list(WORDS) == [*(row.__name__ for row in rows.SIDE_ROWS), LOAD], "every row has its words"
