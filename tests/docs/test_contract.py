"""The page of the contract says what the tests are, and the command that runs them fails where a cell is not shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tools import contract_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_tests_are(tmp_path: Path) -> None:
    contract_page.write(tmp_path / "contract.md")
    written = (tmp_path / "contract.md").read_text()
    assert contract_page.PAGE.read_text() == written, "run: python -m tools.contract_page"


def test_every_integration_has_a_line_or_a_reason() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", contract_page.PAGE.read_text()))
    assert {page.name for page in contract_page.PAGE.parent.glob("*.md")} - linked == {contract_page.PAGE.name}


def test_what_cannot_be_names_a_test_that_is_there() -> None:
    _, _, part = contract_page.PAGE.read_text().partition("## What cannot be")
    rows = [line for line in part.partition("## What has no line")[0].splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        nearest = re.findall(r"\(\.\./\.\./(tests/[\w/]+\.py)#(test_\w+)\)", row)
        assert nearest, row
        for file, test in nearest:
            assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), row


def test_the_table_is_printed_and_a_cell_that_is_not_shown_fails_the_command() -> None:
    one = "tests/sdk/integrations/test_requests.py"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            one,
            "-k",
            "test_client_contract and connects",
        ],
        cwd=ROOT,
        env={**os.environ, "CONTRACT_TABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "requests client             ok 1 MISSING" in done.stdout
    assert "NOT SHOWN requests client, no_failure_through_rotations: MISSING" in done.stdout
    assert "1 passed" in done.stdout
    assert done.returncode == 1
