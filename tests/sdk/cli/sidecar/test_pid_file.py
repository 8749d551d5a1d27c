"""Pid files: one program's number, and nothing that stands for several."""

import os
from pathlib import Path

import pytest

from authsec_sdk.cli.sidecar.pid_file import may_be_signalled, read_pid
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


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hold up rotations and signals for ever."""
    os.mkfifo(tmp_path / "pid")
    for path in (tmp_path / "pid", tmp_path):
        with pytest.raises((ConfigurationError, UnavailableError)):
            read_pid(path)


@pytest.mark.parametrize(
    ("owner", "file_owner", "mode", "us", "expected"),
    [
        (1000, 0, 0o644, 0, True),
        (1000, 1000, 0o600, 0, True),
        (0, 0, 0o644, 0, True),
        (0, 1000, 0o644, 0, False),
        (1001, 1000, 0o644, 0, False),
        (1000, 0, 0o666, 0, False),
        (1001, 1000, 0o666, 1000, True),
        (None, 1000, 0o644, 0, True),
    ],
)
def test_nobody_makes_root_signal_what_they_could_not(
    owner: int | None, file_owner: int, mode: int, us: int, expected: bool
) -> None:
    file = os.stat_result((mode, 0, 0, 1, file_owner, 0, 0, 0, 0, 0))
    assert may_be_signalled(owner, file, us) is expected
