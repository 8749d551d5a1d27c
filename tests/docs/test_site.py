"""The documentation as a site: it builds without a warning, has each page and public name, and fetches nothing."""

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import authsec_sdk
from tools import docs_site

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.xdist_group("site")

# Parts that are private to the SDK, its daemons and its command line; the reference leaves them out.
_NOT_DOCUMENTED = ("authsec_sdk.proto", "authsec_sdk.cli", "authsec_sdk.spire", "authsec_sdk.hcl")
_NOT_DOCUMENTED_MODULES = ("authsec_sdk.atomic_file", "authsec_sdk.http_health")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def nav() -> list[str]:
    text = (ROOT / "mkdocs.yml").read_text()
    config = docs_site.on_config(SimpleNamespace(nav=yaml.safe_load(text)["nav"]))
    return list(docs_site.pages(config.nav))


def test_every_page_is_in_the_nav_once() -> None:
    assert sorted(nav()) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_it_builds_without_a_warning(site: Path) -> None:
    for page in nav():
        folder = (
            site / page.removesuffix(".md") if not page.endswith(("index.md", "README.md")) else (site / page).parent
        )
        assert (folder / "index.html").is_file(), page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Links may lead away; what a browser loads by itself may not."""
    loaded = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//")
    assert [page for page in site.rglob("*.html") if loaded.search(page.read_text())] == []
    styles = re.compile(r"url\(\"?(?:https?:)?//|@import")
    assert [sheet for sheet in site.rglob("*.css") if styles.search(sheet.read_text())] == []
    assert (site / "search/search_index.json").is_file()


def test_every_fence_is_code(site: Path) -> None:
    """A fence whose options the site does not know is text, and reads as such."""
    fenced = re.compile(r"<(?:p|code)>```")
    assert [page for page in site.rglob("*.html") if fenced.search(page.read_text())] == []


def test_a_link_to_a_source_leads_to_a_page_of_it(site: Path) -> None:
    assert 'href="../../source/examples/grpc_server.py/"' in (site / "integrations/grpc/index.html").read_text()
    assert "mtls_server" in (site / "source/examples/grpc_server.py/index.html").read_text()


def documented(site: Path) -> set[str]:
    """Return the names that the inventory of the site knows."""
    body = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(body).decode().splitlines()}


def public_modules() -> list[str]:
    """Return parts with an `__all__`, and the single modules of `integrations`."""
    found = [f"authsec_sdk.{module.name}" for module in pkgutil.iter_modules(authsec_sdk.__path__)]
    found = [name for name in found if name not in (*_NOT_DOCUMENTED, *_NOT_DOCUMENTED_MODULES)]
    integrations = importlib.import_module("authsec_sdk.integrations")
    found.remove("authsec_sdk.integrations")
    found += [f"authsec_sdk.integrations.{module.name}" for module in pkgutil.iter_modules(integrations.__path__)]
    return [name for name in found if not name.rpartition(".")[2].startswith("_")]


def test_the_reference_has_every_public_name(site: Path) -> None:
    """Every class and function: constants and aliases appear where they have a docstring."""
    known = documented(site)
    missing = []
    for name in public_modules():
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            ours = getattr(value, "__module__", "").startswith("authsec_sdk")
            if ours and (inspect.isclass(value) or inspect.isroutine(value)) and f"{name}.{public}" not in known:
                missing.append(f"{name}.{public}")
        if not any(each.startswith(f"{name}.") for each in known):
            missing.append(name)
    assert not missing, "\n".join(missing)


def test_signatures_have_types_and_docstrings_their_sections(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "reference/workloadapi/index.html").read_text())
    assert "expected_agent_uid" in page
    assert "Raises:" in page
    assert "InvalidEndpointError" in page
    assert "-&gt;" in page
