"""For people and for scripts: colour on a terminal alone, and nothing a stranger wrote moves the cursor."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from authsec_sdk.cli.output import Facts, printable, show
from authsec_sdk.testing import TestCA

ROOT = Path(__file__).resolve().parents[3]


def on_a_terminal(*arguments: str, **env: str) -> str:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", **env}
    command = [sys.executable, "-m", "authsec_sdk.cli", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 4096):
                said += chunk
        except OSError:  # Linux says so that nobody has the other end
            pass
        finally:
            os.close(ours)
        assert process.wait(60) == 0
    return said.decode()


def test_colour_on_a_terminal_alone(tmp_path: Path, ca: TestCA, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "svid.pem"
    path.write_bytes(ca.credential("/a").chain_pem())
    assert "\x1b[1m" in on_a_terminal("inspect", str(path))
    assert "\x1b" not in on_a_terminal("inspect", str(path), NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("inspect", str(path), "--output", "json")
    show({"a_key": "[bold]:smile: value", "list": ["x", 1]}, output="pretty")
    assert capsys.readouterr().out == "a key: [bold]:smile: value\nlist: x, 1\n"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\r", "\u202e"])
def test_what_strangers_wrote_is_harmless(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    "claim",
    [
        {"\x1b]0;name\x07": 1},
        {"of": [{"result": "\x1b[2J", "rule": "mine"}]},
        {"of": [{"result": "ok"}, {"other": "\x1b"}]},
        {"of": [{"result": ["ok"]}]},
        {"of": [{"a": {"\r": 1}}, 2]},
        {"of": [[{"\n": "\x1b"}]]},
    ],
)
def test_claims_of_every_shape_are_shown_and_harmless(claim: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    show({"claims": claim, "verdict": "REFUSED"}, output="pretty")
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "verdict: REFUSED"
    assert all(line.startswith(("claims", "  ")) for line in lines[:-1])
