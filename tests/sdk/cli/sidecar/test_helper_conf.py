"""spiffe-helper's configuration: every documented setting is honoured or refused by name, none passed over."""

import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.cli.sidecar.helper_conf import HelperConf, read_helper_conf, split_arguments
from authsec_sdk.cli.sidecar.settings import FileModes, HealthSettings, JWTFile
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.filesource import FileLayout

EVERYTHING = """
agent_address = "/run/agent.sock"
cmd = "ghostunnel"
cmd_args = "server --listen localhost:8002 \\"one argument\\""
pid_file_name = "/run/other.pid"
cert_dir = "certs"
daemon_mode = true
add_intermediates_to_bundle = true
renew_signal = "SIGUSR1"
svid_file_name = "svid.pem"
svid_key_file_name = "svid_key.pem"
svid_bundle_file_name = "svid_bundle.pem"
jwt_svids = [{jwt_audience="a", jwt_extra_audiences=["b", "c"], jwt_svid_file_name="one.token"}, {
  jwt_audience="d"
  jwt_svid_file_name="two.token"
}]
jwt_bundle_file_name = "bundle.json"
include_federated_domains = false
cert_file_mode = 0444
key_file_mode = 0440
jwt_bundle_file_mode = 0404
jwt_svid_file_mode = 0400
hint = "internal"
omit_expired = true
health_checks {
  listener_enabled = true
  bind_port = 9000
  liveness_path = "/l"
  readiness_path = "/r"
}
"""
X509 = 'svid_file_name = "s"\nsvid_key_file_name = "k"\nsvid_bundle_file_name = "b"\nagent_address = "/a"\n'


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(text: str, **options: Any) -> HelperConf:
        path = tmp_path / "helper.conf"
        path.write_text(text)
        return read_helper_conf(path, **{"environ": {}, **options})

    return read


def test_everything(read: Any) -> None:
    conf = read(EVERYTHING)
    settings = conf.settings
    assert conf.warnings == ()
    assert settings.socket == "/run/agent.sock"
    assert settings.command == ("ghostunnel", "server", "--listen", "localhost:8002", "one argument")
    assert not settings.follow_command
    assert settings.pid_file == Path("/run/other.pid")
    assert settings.folder == Path("certs")
    assert not settings.once
    assert settings.add_intermediates_to_bundle
    assert settings.renew_signal is signal.SIGUSR1
    assert settings.layout == FileLayout("svid.pem", "svid_key.pem", "svid_bundle.pem")
    assert settings.jwt_svids == (JWTFile(("a", "b", "c"), "one.token"), JWTFile(("d",), "two.token"))
    assert settings.jwt_bundle == "bundle.json"
    assert settings.modes == FileModes(0o444, 0o440, 0o404, 0o400)
    assert settings.hint == "internal"
    assert settings.omit_expired
    assert settings.health == HealthSettings("", 9000, "/l", "/r")


def test_defaults(read: Any) -> None:
    settings = read(X509 + "cert_file_mode = 0\nhealth_checks { listener_enabled = true }").settings
    assert settings.modes == FileModes(0o644, 0o600, 0o600, 0o600)
    assert settings.health == HealthSettings("", 8081, "/live", "/ready")
    assert settings.folder == Path()
    assert (settings.once, settings.command, settings.hint, settings.jwt_svids) == (False, (), None, ())
    assert read(X509 + "health_checks { bind_port = 1 }").settings.health is None


def test_without_the_daemon_mode_the_program_is_left_alone(read: Any) -> None:
    conf = read(X509 + 'daemon_mode = false\ncmd = "x"\nrenew_signal = "SIGHUP"')
    assert (conf.settings.once, conf.settings.command, conf.settings.renew_signal) == (True, (), None)
    assert [warning.split()[0] for warning in conf.warnings] == ["cmd", "renew_signal"]
    assert read(X509 + "daemon_mode = true", daemon_mode=False).settings.once
    assert not read(X509 + "daemon_mode = false", daemon_mode=True).settings.once


def test_the_agent_may_be_named_by_the_environment(read: Any) -> None:
    text = X509.replace('agent_address = "/a"\n', "")
    environ = {"SPIFFE_ENDPOINT_SOCKET": "unix:///run/b.sock"}
    assert read(text, environ=environ).settings.socket == "unix:///run/b.sock"
    assert read(X509, environ=environ).settings.socket == "/a"
    default = read(text).settings
    assert default.socket == "/tmp/spire-agent/public/api.sock"
    assert default.agent_uid is not None


def test_federated_domains_are_kept_apart_or_refused(read: Any) -> None:
    text = X509 + "include_federated_domains = true"
    with pytest.raises(ConfigurationError, match="where they can vouch for IDs of yours") as info:
        read(text)
    assert info.value.line == 5
    kept = read(text, bundle_map="trust_bundles.json").settings
    assert (kept.bundle_map, kept.unsafe_federated_in_pem) == ("trust_bundles.json", False)
    assert read(text, unsafe_federated_in_pem=True).settings.unsafe_federated_in_pem
    assert not read(X509, unsafe_federated_in_pem=True).settings.unsafe_federated_in_pem


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ('svid_filename = "x"', "unknown key 'svid_filename'", 5),
        ('svidFileName = "x"', "unknown key", 5),
        ('pid_file_name = "x"', "pid_file_name needs renew_signal", 5),
        ('pid_file_name = "x"\nrenew_signal = "SIGHUP"\ndaemon_mode = false', "no meaning without daemon_mode", 5),
        ('renew_signal = "SIGNOPE"', "is no signal", 5),
        ('cmd = "x"\ncmd_args = "\\"open"', "cmd_args", 6),
        ('jwt_svids = [{jwt_audience="a"}]', "jwt_svid_file_name is missing", 5),
        ('jwt_svids = [{jwt_svid_file_name="a"}]', "jwt_audience is missing", 5),
        ('jwt_svids = [{jwt_audience="a", jwt_svid_file_name="t", x="y"}]', "unknown key 'x'", 5),
        ('jwt_bundle_file_name = "s"', "two files have one name", 1),
        ('jwt_bundle_file_name = "../x"', "is not the name of a file", 1),
        ("key_file_mode = -1", "at least 0", 5),
        ("key_file_mode = 01777", "at most 511", 5),
        ("key_file_mode = 0044", "the mode of the key", 1),
        ("health_checks { bind_port = 70000 }", "at most 65535", 5),
        ("health_checks { port = 1 }", "unknown key 'port'", 5),
        ('health_checks { liveness_path = "/x" readiness_path = "/x" }', "must differ", 5),
        ('daemon_mode = "maybe"', "must be true or false", 5),
        ("cmd = ", "expected a value", 5),
    ],
)
def test_what_is_refused(read: Any, text: str, words: str, line: int) -> None:
    with pytest.raises(ConfigurationError, match=r"helper\.conf") as info:
        read(X509 + text)
    assert words in str(info.value)
    assert info.value.line == line


@pytest.mark.parametrize("text", ["", 'svid_file_name = "s"', "jwt_svids = []"])
def test_too_little(read: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing to write|all or none"):
        read(text + '\nagent_address = "/a"')


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a b", ("a", "b")),
        ("a  b", ("a", "", "b")),
        ('"this is one argument"', ("this is one argument",)),
        ('"with ONE double-quote "" in it"', ('with ONE double-quote " in it',)),
        ("-c 'echo hello world'", ("-c", "'echo", "hello", "world'")),
        ('-c "echo hello" x', ("-c", "echo hello", "x")),
    ],
)
def test_arguments_are_split_as_spiffe_helper_does(text: str, arguments: tuple[str, ...]) -> None:
    assert split_arguments(text) == arguments


@pytest.mark.parametrize("text", ['"open', 'a"b', '"a"b', 'x "open'])
def test_quotes_that_do_not_match(text: str) -> None:
    with pytest.raises(ValueError, match="quote"):
        split_arguments(text)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1))
def test_quoted_arguments_come_back(arguments: list[str]) -> None:
    text = " ".join('"' + argument.replace('"', '""') + '"' for argument in arguments)
    assert split_arguments(text) == tuple(arguments)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_an_error_of_ours(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "helper.conf"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            read_helper_conf(path, environ={})
        except ConfigurationError:
            pass
