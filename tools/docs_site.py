"""What mkdocs is told beside mkdocs.yml: the pages of a folder join the nav, and linked sources become pages.

mkdocs calls the functions below (its hooks) while `make docs` builds the site.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_TITLED = re.compile(r"^(```\w+) title=([^\s\"]+)$", re.MULTILINE)
_FENCE = "`" * 8


def on_config(config: Any) -> Any:
    """Let the last entry of a section be a pattern: it stands for the pages of a folder that the nav names nowhere."""
    named = set(pages(config.nav))
    config.nav = _expanded(config.nav, named)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Make a page of each file outside docs/ that a page links to, so that the site leads to sources and tests too."""
    waiting = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    made: set[str] = set()
    while waiting:
        page, text = waiting.pop()
        for target in sorted(set(_outside(page, text)) - made):
            made.add(target)
            content = _page_of(target)
            file = File.generated(config, f"source/{target}.md", content=content, inclusion=InclusionLevel.NOT_IN_NAV)
            files.append(file)
            if target.endswith(".md"):
                waiting.append((target, content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links that go out of docs/ to the pages that were made of what they name; quote the titles of code."""
    uri = page.file.src_uri
    here = uri.removeprefix("source/").removesuffix(".md") if uri.startswith("source/") else f"docs/{uri}"

    def led(match: re.Match[str]) -> str:
        target = _target(here, match[1])
        if target is None:
            return match[0]
        inside = target.removeprefix("docs/") if target.startswith("docs/") else f"source/{target}.md"
        return posixpath.relpath(inside, posixpath.dirname(uri) or ".") + match[2]

    return _TITLED.sub(r'\1 title="\2"', _LINK.sub(led, markdown)) if here.endswith(".md") else markdown


def pages(nav: Any) -> Iterator[str]:
    """Give the pages that a nav names, in its order."""
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages(entry)


def title_of(page: str) -> str:
    """Return the heading of a page of docs/."""
    found = _TITLE.search((DOCS / page).read_text())
    return found[1].replace("`", "") if found else page


def _expanded(nav: list[Any], named: set[str]) -> list[Any]:
    result: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and "*" in entry:
            found = {path.relative_to(DOCS).as_posix() for path in DOCS.glob(entry)} - named
            result += sorted(found, key=lambda page: title_of(page).lower())
        elif isinstance(entry, dict):
            result += [{title: _expanded(v, named) if isinstance(v, list) else v for title, v in entry.items()}]
        else:
            result.append(entry)
    return result


def _target(page: str, link: str) -> str | None:
    """Return what a link names, from the root of the repository; None for what is not the repository's."""
    if ":" in link or link.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _outside(page: str, text: str) -> Iterator[str]:
    for link, _ in _LINK.findall(text):
        target = _target(page, link)
        if target and not target.startswith("docs/") and (ROOT / target).is_file():
            yield target


def _page_of(name: str) -> str:
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        return text
    head = f"---\nsearch:\n  exclude: true\n---\n# `{name}`\n\n"
    if not name.endswith(".py"):
        return f"{head}{_FENCE}text\n{text}\n{_FENCE}\n"
    return head + "".join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    """Cut Python source before each test, which gets a heading to link to."""
    lines = text.splitlines(keepends=True)
    tests = sorted(_tests(ast.parse(text).body))
    begin, name = 0, ""
    for end, following in [*tests, (len(lines), "")]:
        if name:
            yield f"## `{name}` {{ #{name} }}\n\n"
        yield f"{_FENCE} {{ .python linenums='{begin + 1}' }}\n{''.join(lines[begin:end]).rstrip()}\n{_FENCE}\n\n"
        begin, name = end, following


def _tests(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Give (lines before it, name) of each test, of classes too."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1, node.name
