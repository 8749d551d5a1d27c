"""Pid files: one program's number, and nothing that stands for several."""

from pathlib import Path

import pytest

from authsec_sdk.cli.sidecar.pid_file import read_pid
from authsec_sdk.errors import ConfigurationError, UnavailableError


@pytest.mark.parametrize("text", ["42", "42\n", " 42 \n", "42\n/var/lib/postgresql/data\n1700000000\n5432\n"])
def test_the_first_line_counts(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert read_pid(tmp_path / "pid") == 42


@pytest.mark.parametrize("text", ["", "\n42", "0", "1", "-1", "-42", "x", "4 2", "4_2", "٤٢"])
def test_what_names_no_program_is_refused(tmp_path: Path, text: str) -> None:
    """0 and negative numbers stand for whole groups of processes, and 1 for init."""
    (tmp_path / "pid").write_text(text)
    with pytest.raises(ConfigurationError):
        read_pid(tmp_path / "pid")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be read"):
        read_pid(tmp_path / "pid")
