"""What commands share in reading their arguments: the shape of help, the agent's address, durations, modes."""

import argparse
import inspect
from collections.abc import Sequence
from typing import Any

__all__ = ["add_command", "add_socket", "file_mode", "seconds"]


def add_command(
    commands: Any, name: str, *, summary: str, description: str | None, examples: Sequence[tuple[str, str]]
) -> argparse.ArgumentParser:
    """Add a command whose help ends in examples: pairs of a command line and what it does."""
    width = max(len(line) for line, _ in examples) + 3
    lines = [f"  {line:<{width}}{meaning}".rstrip() for line, meaning in examples]
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=None if description is None else inspect.cleandoc(description).replace("``", ""),
        epilog="\n".join(["examples:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_socket(parser: argparse.ArgumentParser, *, timeout: float | None = 5.0, inherited: bool = False) -> None:
    """Add ``--socket``, and ``--timeout`` where waiting has an end.

    With `inherited` the command above has them too, and what stands there holds where nothing stands here.
    """
    none: Any = argparse.SUPPRESS if inherited else None
    parser.add_argument(
        "--socket", default=none, metavar="ADDRESS", help="the Workload API (default: SPIFFE_ENDPOINT_SOCKET)"
    )
    if timeout is not None:
        default: Any = argparse.SUPPRESS if inherited else timeout
        how_long = f"how long to wait (default {timeout:g})"
        parser.add_argument("--timeout", type=seconds, default=default, metavar="SECONDS", help=how_long)


def seconds(text: str) -> float:
    """Read a number of seconds above zero, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above zero")
    return number


def file_mode(text: str) -> int:
    """Read a mode in octal, for argparse."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no mode of a file; write it in octal, such as 0640")
    return mode
