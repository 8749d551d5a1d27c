"""Continuous integration fails on a skip that tests/allowed-skips does not name, and only on such."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CODE = """
import pytest

def test_runs():
    pass

def test_skips():
    pytest.skip("the moon is full")
"""


@pytest.mark.parametrize(
    ("allowed", "environment", "code"),
    [
        ("", {}, 0),
        ("", {"CI": "true"}, 1),
        ("*::test_skips | the moon* | nobody can change that\n", {"CI": "true"}, 0),
        ("*::test_skips | the sun* | another reason\n", {"CI": "true"}, 1),
        ("*::test_skips | the moon*\n", {"CI": "true"}, 4),
    ],
)
def test_a_skip_nobody_named_fails_the_run(
    tmp_path: Path, allowed: str, environment: dict[str, str], code: int
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "allowed-skips").write_text(allowed)
    (tmp_path / "test_it.py").write_text(CODE)
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")} | environment
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
