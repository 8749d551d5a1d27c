import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder of ours with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ac-") as folder:
        yield Path(folder)


@pytest.fixture
def import_path() -> Callable[[dict[str, str]], dict[str, str]]:
    """An environment in which a child process finds the packages under test."""

    def extend(environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "PYTHONPATH": str(ROOT)}

    return extend
