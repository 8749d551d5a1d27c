import io
from collections.abc import Callable, Sequence

import pytest

from icp_common.commands import Command, Program
from icp_common.flags import FlagSet

Run = Callable[..., tuple[int, str, str]]


def _echo(name: str) -> Command:
    def run(arguments: Sequence[str]) -> int:
        flags = FlagSet(name)
        code = flags.integer("code", "Exit with this")
        rest = flags.parse(arguments)
        return code.value + len(rest)

    return Command(name, f"Does {name}", run)


@pytest.fixture
def run() -> Run:
    names = ("run", "entry create", "entry show", "api fetch", "api fetch x509")
    program = Program("icp", "5.0", [_echo(name) for name in names], summary="A server.", examples=("icp run",))

    def call(*arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        return program.main(arguments, stdout=out, stderr=err), out.getvalue(), err.getvalue()

    return call


def test_the_command_with_the_most_words_is_run(run: Run) -> None:
    assert run("entry", "create", "-code", "7") == (7, "", "")
    assert run("api", "fetch") == (0, "", "")
    assert run("api", "fetch", "other") == (1, "", "")
    assert run("api", "fetch", "x509", "a", "b") == (2, "", "")


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_help_goes_to_stdout(run: Run, flag: str) -> None:
    code, out, err = run(flag)
    assert (code, err) == (0, "")
    assert "Available commands are:" in out
    assert "Does run" in out
    assert "Examples:\n  icp run" in out
    code, out, err = run("entry", "create", flag)
    assert (code, err) == (0, "")
    assert out.startswith("Usage of entry create:\n")
    code, out, err = run("entry", flag)
    assert (code, err) == (0, "")
    assert "create    Does entry create" in out
    assert "run" not in out


@pytest.mark.parametrize("flag", ["-v", "-version", "--version"])
def test_version(run: Run, flag: str) -> None:
    assert run(flag) == (0, "5.0\n", "")


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("bogus", "-h"), ("entries", "create")])
def test_an_unknown_command_exits_127(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (127, "")
    assert "Available commands are:" in err


@pytest.mark.parametrize("arguments", [("entry",), ("entry", "bogus")])
def test_a_group_without_its_command_exits_1(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert "Does entry show" in err


def test_a_wrong_flag_exits_1_with_the_usage(run: Run) -> None:
    code, out, err = run("entry", "create", "-foo")
    assert (code, out) == (1, "")
    assert err.startswith("flag provided but not defined: -foo\nUsage of entry create:\n")


def test_a_flag_before_the_command_exits_1(run: Run) -> None:
    code, out, err = run("-foo", "run")
    assert (code, out) == (1, "")
    assert "put a command's flags after its name" in err
