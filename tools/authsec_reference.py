"""Write docs/reference/authsec.md from the commands themselves: `python -m tools.authsec_reference`."""

import argparse
import sys
from pathlib import Path
from typing import Final

from authsec_sdk.cli import build_parser
from authsec_sdk.cli.completion import Verb, verbs

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "authsec.md"

_MARK: Final = "<!-- what follows is generated -->\n"


def page(current: str) -> str:
    """Return the page: what people wrote of it, as it is, and what the commands say of themselves."""
    head, mark, _ = current.partition(_MARK)
    return "\n".join([head + mark, *(_section(verb) for verb in verbs(build_parser()) if verb.words)])


def _section(verb: Verb) -> str:
    lines = [f"{'#' * (1 + len(verb.words))} `authsec {' '.join(verb.words)}`", ""]
    if verb.parser.description:
        lines += [verb.parser.description.replace("``", "`"), ""]
    options = [action for action in verb.options() if "--help" not in action.option_strings]
    if not verb.commands() or any(action.option_strings for action in options):
        lines += ["| argument | what |", "|---|---|"]
        lines += [f"| {_name(action)} | {_cell(action.help or '')} |" for action in options if not _is_command(action)]
        lines.append("")
    if verb.parser.epilog:
        lines += ["```text", verb.parser.epilog.strip(), "```", ""]
    return "\n".join(lines)


def _is_command(action: argparse.Action) -> bool:
    return isinstance(action.choices, dict)


def _name(action: argparse.Action) -> str:
    takes = "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest)
    words = " ".join(part for part in (", ".join(action.option_strings), takes) if part)
    return "`" + words.replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("%%", "%")


def main() -> None:
    """Write it."""
    PAGE.write_text(page(PAGE.read_text()))
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
