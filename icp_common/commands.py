"""A program of subcommands, as `spire-server` and `spire-agent` are: finds the command, gives help, exits like them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from icp_common.flags import HelpRequested, UsageError

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_UNKNOWN_COMMAND = 127
_HELP = frozenset({"-h", "-help", "--help"})
_VERSION = frozenset({"-v", "-version", "--version"})


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: its words (`entry create`), what it does in a line, and the function that gets what follows them.

    `run` gives the exit code. It may raise UsageError and HelpRequested, as `FlagSet.parse` does; the program then
    prints the usage they bring.
    """

    name: str
    summary: str
    run: Callable[[Sequence[str]], int]


class Program:
    """Finds the subcommand with the most words and runs it.

    Help goes to stdout with exit code 0 where it was asked for, else to stderr: 1 for a wrong flag or a group of
    commands without one of them, 127 for a command nobody knows.
    """

    def __init__(
        self, name: str, version: str, commands: Iterable[Command], *, summary: str = "", examples: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.version = version
        self.summary = summary
        self.examples = tuple(examples)
        self._commands = {command.name: command for command in commands}

    def main(
        self, arguments: Sequence[str] | None = None, *, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> int:
        """Run the command of `arguments` (those of the process, if None) and give the exit code."""
        arguments = sys.argv[1:] if arguments is None else arguments
        out, err = stdout or sys.stdout, stderr or sys.stderr
        for argument in arguments:
            if not argument.startswith("-"):
                break
            if argument in _VERSION:
                print(self.version, file=out)
                return EXIT_OK
            if argument in _HELP:
                print(self.help(), file=out)
                return EXIT_OK
            print(f"unknown flag before the subcommand: {argument}; put a command's flags after its name\n", file=err)
            print(self.help(), file=err)
            return EXIT_FAILURE
        command, rest = self._find(arguments)
        if command is None:
            return self._without_command(arguments, out, err)
        return self._run(command, rest, out, err)

    def help(self, group: str = "") -> str:
        """The commands there are, or those of a group."""
        prefix = f"{group} " if group else ""
        rows: dict[str, str] = {}
        for name in sorted(self._commands):
            if name.startswith(prefix):
                word, _, more = name.removeprefix(prefix).partition(" ")
                rows[word] = rows.get(word, "") if more else self._commands[name].summary
        width = max(map(len, rows), default=0)
        lines = [f"Usage: {self.name} {prefix}[--version] [--help] <command> [<args>]".replace("  ", " ")]
        if self.summary and not group:
            lines += ["", self.summary]
        lines += ["", "Available commands are:"]
        lines += [
            f"    {word:<{width}}    {text or f'see {self.name} {prefix}{word} -h'}" for word, text in rows.items()
        ]
        if self.examples and not group:
            lines += ["", "Examples:", *(f"  {example}" for example in self.examples)]
        return "\n".join(lines)

    def _find(self, arguments: Sequence[str]) -> tuple[Command | None, Sequence[str]]:
        words = 0
        while words < len(arguments) and not arguments[words].startswith("-"):
            words += 1
        for count in range(words, 0, -1):
            command = self._commands.get(" ".join(arguments[:count]))
            if command:
                return command, arguments[count:]
        return None, arguments

    def _without_command(self, arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
        group = ""
        for argument in arguments:
            longer = f"{group} {argument}".strip()
            if not any(name.startswith(f"{longer} ") for name in self._commands):
                break
            group = longer
        if group and _HELP.intersection(arguments):
            print(self.help(group), file=out)
            return EXIT_OK
        print(self.help(group), file=err)
        return EXIT_FAILURE if group else EXIT_UNKNOWN_COMMAND

    def _run(self, command: Command, arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
        try:
            return command.run(arguments)
        except HelpRequested as request:
            print(request.usage, end="", file=out)
            return EXIT_OK
        except UsageError as error:
            print(error, file=err)
            print(error.usage, end="", file=err)
            return EXIT_FAILURE
