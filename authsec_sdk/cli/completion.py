"""``authsec completion``: what a shell needs to complete commands, options and their choices.

Print it where your shell looks: bash ``source <(authsec completion bash)``, zsh the same after ``compinit``, fish
``authsec completion fish > ~/.config/fish/completions/authsec.fish``.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from authsec_sdk.cli.parsing import add_command

__all__ = ["Verb", "register", "verbs"]

_EXAMPLES = (
    ("source <(authsec completion bash)", "in this shell; or in ~/.bashrc"),
    ("authsec completion fish > ~/.config/fish/completions/authsec.fish", "for fish"),
)


@dataclass(frozen=True, slots=True)
class Verb:
    """A command, or a command of a command, and what may follow it."""

    words: tuple[str, ...]
    parser: argparse.ArgumentParser

    def commands(self) -> dict[str, str]:
        """Its own commands with their one line of help."""
        for action in self.parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                return {choice.dest: choice.help or "" for choice in action._get_subactions()}
        return {}

    def options(self) -> list[argparse.Action]:
        """Its options, and arguments that have choices."""
        return [action for action in self.parser._actions if action.help is not argparse.SUPPRESS]

    def candidates(self) -> list[str]:
        """Every word that may stand after it."""
        found = list(self.commands())
        for action in self.options():
            found += [option for option in action.option_strings if option.startswith("--")]
            if not action.option_strings and action.choices and not self.commands():
                found += [str(choice) for choice in action.choices]
        return found


def verbs(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[Verb]:
    """Yield every command there is, the outer ones first."""
    verb = Verb(words, parser)
    yield verb
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from verbs(child, (*words, name))


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = add_command(
        commands, "completion", summary="complete commands in a shell", description=__doc__, examples=_EXAMPLES
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from authsec_sdk.cli import build_parser

    every = list(verbs(build_parser()))
    sys.stdout.write(_fish(every) if options.shell == "fish" else _bash(every, zsh=options.shell == "zsh"))
    return 0


def _bash(every: list[Verb], *, zsh: bool) -> str:
    values, cases = [], []
    for verb in every:
        cases.append(_case(verb.words, verb.candidates()))
        for action in verb.options():
            if action.choices:
                choices = [str(choice) for choice in action.choices]
                values += [_case((*verb.words, name), choices) for name in action.option_strings]
    paths = " ".join(shlex.quote(" ".join(verb.words)) for verb in every if verb.words)
    head = "autoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{head}_authsec() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" path="" word known words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    for known in {paths}; do
      if [[ "$known" == "${{path:+$path }}$word" ]]; then path="$known"; break; fi
    done
  done
  case "${{path:+$path }}$previous" in
{chr(10).join(values)}
    *) case "$path" in
{chr(10).join(cases)}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -o filenames -F _authsec authsec
"""


def _case(words: tuple[str, ...], candidates: list[str]) -> str:
    return f"    {shlex.quote(' '.join(words))}) words={shlex.quote(' '.join(candidates))} ;;"


def _fish(every: list[Verb]) -> str:
    lines = ["complete -c authsec -f"]
    for verb in every:
        seen = " ".join(f"; and __fish_seen_subcommand_from {word}" for word in verb.words)
        children = verb.commands()
        none = f"not __fish_seen_subcommand_from {' '.join(children)}" if children else "true"
        when = shlex.quote(none + seen)
        lines += [f"complete -c authsec -n {when} -a {name} -d {shlex.quote(text)}" for name, text in children.items()]
        if not verb.words:
            continue
        for action in verb.options():
            for name in action.option_strings:
                if not name.startswith("--"):
                    continue
                takes = "" if action.nargs == 0 else " -r -F"
                if action.choices:
                    takes = f" -x -a {shlex.quote(' '.join(map(str, action.choices)))}"
                text = shlex.quote((action.help or "").split(";")[0])
                lines.append(f"complete -c authsec -n {when} -l {name[2:]}{takes} -d {text}")
    return "\n".join(lines) + "\n"
