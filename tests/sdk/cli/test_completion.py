"""``authsec completion``: asked as shells ask."""

import shutil
import subprocess

import pytest

from authsec_sdk.cli import build_parser, main
from authsec_sdk.cli.completion import verbs


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def complete(text: str, *words: str) -> list[str]:
    ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _authsec; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "--norc", "-c", f"complete() {{ :; }}\n{text}\n{ask}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash(capsys: pytest.CaptureFixture[str]) -> None:
    text = script("bash", capsys)
    assert {"fetch", "run", "doctor"} <= set(complete(text, "authsec", "''"))
    assert complete(text, "authsec", "doc") == ["doctor"]
    assert complete(text, "authsec", "fetch", "j") == ["jwt"]
    assert complete(text, "authsec", "fetch", "jwt", "--aud") == ["--audience"]
    assert complete(text, "authsec", "fetch", "jwt", "--output", "''") == ["pretty", "json"]
    assert complete(text, "authsec", "watch", "jwt") == ["jwt-bundles"]
    assert complete(text, "authsec", "completion", "z") == ["zsh"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_there(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for verb in verbs(build_parser()):
        for candidate in verb.commands():
            assert candidate in text
        if verb.words:
            options = [name for action in verb.options() for name in action.option_strings if name.startswith("--")]
            assert all((f"-l {name[2:]}" if shell == "fish" else name) in text for name in options)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which(shell)
    text = script(shell, capsys)
    if program is None:
        assert text.count("\n") > 10
        return
    subprocess.run([program, "-n", "-c", text], check=True, capture_output=True)
