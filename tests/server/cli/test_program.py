"""The program around the commands: help with examples, exit codes, sockets by instance, run's and validate's flags."""

from pathlib import Path

import pytest

from authsec_sdk.errors import SpiffeError
from icp_server.cli import main
from icp_server.cli.api import DEFAULT_SOCKET, socket_path
from icp_server.cli.program import _COMMANDS

NAMES = [name for name, _, _ in _COMMANDS]

CONFIG = """
server {
  trust_domain = "example.org"
  data_dir = "./.data"
  ca_ttl = "2h"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "./.data/db" } }
  KeyManager "memory" {}
}
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_with_examples(name: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), flag]) == 0
    out, err = capsys.readouterr()
    assert f"Usage of {name}:" in out
    assert f"\nExamples:\n  icp-server {name}" in out
    assert err == ""


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_flag_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "-bogus"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flag provided but not defined: -bogus\n")
    assert f"Usage of {name}:" in err


@pytest.mark.parametrize(
    ("arguments", "code"), [(["nope"], 127), ([], 127), (["entry"], 1), (["entry", "nope"], 1), (["--help"], 0)]
)
def test_exit_codes_of_what_is_no_command(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert "Available commands are:" in (out if code == 0 else err)


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("5.")


def test_an_unknown_output_format_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entry", "show", "-output", "yaml"]) == 1
    assert capsys.readouterr().err.startswith(
        'invalid value "yaml" for flag -output: bad formatter flag: unknown format option: "yaml"\n'
    )


@pytest.mark.parametrize(
    ("flag", "instance", "environ", "path"),
    [
        (DEFAULT_SOCKET, "", {}, DEFAULT_SOCKET),
        ("/x", "", {"SPIRE_SERVER_PRIVATE_SOCKET": "/y"}, "/x"),
        (DEFAULT_SOCKET, "", {"SPIRE_SERVER_PRIVATE_SOCKET": "/y"}, "/y"),
        (DEFAULT_SOCKET, "i", {"SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE": "/run/%i/s"}, "/run/i/s"),
        ("/x", "i", {"SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE": "/run/%i/s"}, "/x"),
    ],
)
def test_the_socket_is_chosen(flag: str, instance: str, environ: dict[str, str], path: str) -> None:
    assert socket_path(flag, instance, environ) == path


@pytest.mark.parametrize("environ", [{}, {"SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE": "/run/s"}])
def test_an_instance_needs_a_template(environ: dict[str, str]) -> None:
    with pytest.raises(SpiffeError, match="SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE"):
        socket_path(DEFAULT_SOCKET, "i", environ)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "server.conf"
    file.write_text(CONFIG)
    return file


def test_a_valid_configuration_is_called_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-config", str(config)]) == 0
    out, err = capsys.readouterr()
    assert out == "SPIRE server configuration file is valid.\n"
    assert err.startswith("warning: default_x509_svid_ttl is too high")
    assert not (config.parent / ".data").exists()  # nothing is made


@pytest.mark.parametrize("command", ["validate", "run"])
def test_an_invalid_configuration_is_told_with_its_place(
    config: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.replace("data_dir", "data_dr"))
    assert main([command, "-config", str(config)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{config}:4:3: unknown key 'data_dr' in server; did you mean 'data_dir'?" in err
    assert err.startswith("SPIRE server configuration file is invalid: " if command == "validate" else str(config))


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-logLevel", "loud"], "loud"),
        (["-logFormat", "xml"], "xml"),
        (["-serverPort", "70000"], "-serverPort"),
        (["-serverPort", "x"], 'invalid value "x" for flag -serverPort: parse error'),
        (["-trustDomain", "A"], "trust_domain"),
        (["-config", "/no/such/file"], "could not find config file /no/such/file: please use the -config flag"),
    ],
)
def test_flags_are_checked_too(
    config: Path, command: str, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "-config", str(config), *flags]) == 1
    assert words in capsys.readouterr().err
