"""Code in the documentation runs, links lead somewhere, and the examples do what their first line says."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return (the rest of the fence's line, the code) of a page's blocks in a language."""
    return [(title.strip(), code) for kind, title, code in _BLOCK.findall(page.read_text()) if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_documentation_compiles(page: Path) -> None:
    for _, code in blocks(page, "python"):
        compile(code, str(page), "exec")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="doc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.timeout(180)
def test_tutorial(folder: Path) -> None:
    page = ROOT / "docs" / "tutorial.md"
    ports = {"18081": str(free_port()), "18443": str(free_port())}

    def own_ports(text: str) -> str:
        for documented, free in ports.items():
            text = text.replace(documented, free)
        return text

    for title, code in blocks(page, "python"):
        (folder / title.removeprefix("title=")).write_text(own_ports(code))
    script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    script += "\n".join(own_ports(code) for _, code in blocks(page, "sh"))
    env = {"PATH": os.environ["PATH"], "AUTHSEC_CLONE": str(folder / "clone"), "HOME": str(folder)}
    (folder / "clone").mkdir()
    (folder / "clone" / ".venv").symlink_to(Path(sys.executable).parents[1])
    for package in ("authsec_sdk", "icp_server", "icp_agent", "icp_common"):
        (folder / "clone" / package).symlink_to(ROOT / package)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=150, check=False
    )
    logs = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    assert "paid, spiffe://example.org/frontend" in done.stdout
