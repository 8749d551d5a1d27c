"""server.conf: defaults, every setting honoured, every mistake named with its place."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError
from icp_server.config import Overrides, ServerConfig, load_config
from icp_server.config.model import HealthListener, RateLimitSwitches, Tokens
from icp_server.domain.key_settings import MemoryKeys
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject
from icp_server.nodeattestors.registry import known_attestors

Read = Callable[..., ServerConfig]


def test_the_least_there_is_has_spires_defaults(read: Read) -> None:
    config = read()
    assert config.trust_domain.name == "example.org"
    assert (config.listeners.address, config.listeners.port) == ("0.0.0.0", 8081)
    assert config.listeners.socket_path == Path("/tmp/spire-server/private/api.sock")
    assert config.lifetimes.ca == timedelta(hours=24)
    assert config.lifetimes.x509_svid == timedelta(hours=1)
    assert config.lifetimes.agent is None
    assert config.ca_key_type is KeyType.EC_P256
    assert config.rate_limits == RateLimitSwitches(attestation=True, signing=True)
    assert config.log.level == "INFO"
    assert config.log.format == "text"
    assert config.health is None
    assert not config.audit_log_enabled
    assert config.plugins.data_store.path == Path("./.data/db.sqlite3")
    assert config.plugins.key_manager == MemoryKeys()
    assert set(config.plugins.node_attestors) == {"join_token"}
    assert config.warnings == ()


def test_every_setting_that_is_honoured_is_read(read: Read) -> None:
    config = read(
        """
        admin_ids = ["spiffe://example.org/admin"]
        agent_ttl = "30m"
        audit_log_enabled = true
        bind_address = "[::1]"
        bind_port = "8082"
        ca_key_type = "rsa-2048"
        ca_subject { country = ["NO"] organization = ["Us"] common_name = "CA" }
        ca_ttl = "48h"
        default_x509_svid_ttl = "1h30m"
        log_file = "server.log"
        log_level = "debug"
        log_format = "JSON"
        log_source_location = true
        ratelimit { attestation = false }
        require_strong_selectors = true
        socket_path = "/run/x/api.sock"
        experimental { agent_spiffe_id_as_selector = true }
        """,
        top='health_checks { listener_enabled = true bind_port = "8080" live_path = "/l" ready_path = "/r" }',
    )
    assert {str(each) for each in config.admin_ids} == {"spiffe://example.org/admin"}
    assert config.lifetimes.agent == timedelta(minutes=30)
    assert config.lifetimes.ca == timedelta(hours=48)
    assert config.lifetimes.x509_svid == timedelta(minutes=90)
    assert config.audit_log_enabled
    assert (config.listeners.address, config.listeners.port) == ("::1", 8082)
    assert config.listeners.socket_path == Path("/run/x/api.sock")
    assert config.ca_key_type is KeyType.RSA_2048
    assert config.ca_subject == CASubject(("NO",), ("Us",), "CA")
    assert (config.log.file, config.log.level, config.log.format) == (Path("server.log"), "DEBUG", "json")
    assert config.log.source_location
    assert config.rate_limits == RateLimitSwitches(attestation=False, signing=True)
    assert config.agent_spiffe_id_as_selector
    assert config.require_strong_selectors
    assert config.health == HealthListener(bind_port=8080, live_path="/l", ready_path="/r")
    assert config.warnings == ()


def test_flags_win_over_the_file(read: Read) -> None:
    config = read(
        'log_level = "INFO"\nbind_port = 1\nlog_source_location = true',
        bind_address="127.0.0.1",
        bind_port=9000,
        data_dir="/d",
        log_level="error",
        log_format="json",
        log_file="f",
        socket_path="/s",
        trust_domain="other.org",
        log_source_location=False,
    )
    assert (config.listeners.address, config.listeners.port) == ("127.0.0.1", 9000)
    assert config.data_dir == Path("/d")
    assert config.log.level == "ERROR"
    assert config.trust_domain.name == "other.org"
    assert config.listeners.socket_path == Path("/s")
    assert not config.log.source_location


@pytest.mark.parametrize(
    ("server", "line", "words"),
    [
        ('trust_domian = "x"', 5, "unknown key 'trust_domian' in server; did you mean 'trust_domain'?"),
        ('ca_ttl = "1d"', 5, "'1d' is no duration"),
        ('ca_ttl = "-1h"', 5, "at least 1s"),
        ('agent_ttl = "0s"', 5, "at least 1s"),
        ('bind_port = "abc"', 5, "whole number"),
        ("bind_port = 70000", 5, "at most 65535"),
        ('ca_key_type = "ec-p521"', 5, "must be one of ec-p256, ec-p384, rsa-2048, rsa-4096"),
        ('log_level = "LOUD"', 5, "unknown log level 'LOUD'"),
        ('admin_ids = ["example.org/admin"]', 5, "could not parse admin ID"),
        ('admin_ids = ["spiffe://other.org/admin"]', 5, "federation is not supported yet"),
        ('admin_ids = ["spiffe://example.org/spire/agent/x"]', 5, "is reserved"),
        ('ca_subject { country = ["Norway"] }', 5, "no two-letter country code"),
        ("ca_subject { contry = [] }", 5, "did you mean 'country'?"),
        ("ratelimit { signin = true }", 5, "did you mean 'signing'?"),
        ('audit_log_enabled = "true"', 5, "without quotes"),
        ("experimental { agent_spiffe_id_as_selecto = true }", 5, "did you mean 'agent_spiffe_id_as_selector'?"),
        ('default_jwt_svid_ttl = "0s"', 5, "at least 1s"),
        ('jwt_key_type = "ec-p521"', 5, "must be one of ec-p256, ec-p384, rsa-2048, rsa-4096"),
        ('experimental { wit_key_type = "x" }', 5, "must be one of ec-p256, ec-p384, rsa-2048, rsa-4096"),
        ('experimental { feature_flags = ["wit"] }', 5, "unknown feature flag 'wit' (known: wit-svid)"),
        ("prune_tofu_nodes = true", 5, "not supported yet"),
        ("experimental { require_pq_kem = true }", 5, "not supported yet"),
        ('proxy_protocol_trusted_cidrs = ["10.0.0.0/8"]', 5, "not supported yet"),
        ('experimental { named_pipe_name = "x" }', 5, "please use socket_path"),
    ],
)
def test_what_is_wrong_or_not_built_is_named_with_its_line(read: Read, server: str, line: int, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(server)
    assert words in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("server.conf", line)


@pytest.mark.parametrize(
    "server",
    [
        "prune_tofu_nodes = false",
        "proxy_protocol_trusted_cidrs = []",
        'jwt_issuer = ""',
        "profiling_enabled = false",
        "experimental { require_pq_kem = false feature_flags = [] }",
    ],
)
def test_a_value_that_asks_for_nothing_passes(read: Read, server: str) -> None:
    assert read(server) == read()


@pytest.mark.parametrize(
    ("server", "top", "name"),
    [
        ('max_attested_node_info_staleness = "5s"', "", "server.max_attested_node_info_staleness"),
        ('experimental { cache_reload_interval = "1s" }', "", "server.experimental.cache_reload_interval"),
        ("experimental { events_based_cache = true }", "", "server.experimental.events_based_cache"),
        ("", "telemetry { InMem {} }", "telemetry.InMem"),
    ],
)
def test_what_holds_anyway_is_accepted_and_said(read: Read, server: str, top: str, name: str) -> None:
    (warning,) = read(server, top=top).warnings
    assert warning.startswith(f"{name}: ")


def test_what_is_set_about_tokens(read: Read) -> None:
    assert read().tokens == Tokens()
    config = read("""
        default_jwt_svid_ttl = "2m"
        jwt_issuer = "https://issuer.example.org"
        jwt_key_type = "RSA-2048"
        experimental { feature_flags = ["wit-svid"] wit_issuer = "w" wit_key_type = "ec-p384" }
    """)
    assert config.lifetimes.jwt_svid == timedelta(minutes=2)
    assert config.tokens == Tokens(
        jwt_issuer="https://issuer.example.org",
        jwt_key_type=KeyType.RSA_2048,
        wit=True,
        wit_issuer="w",
        wit_key_type=KeyType.EC_P384,
    )
    assert config.warnings == ()


def test_what_is_set_for_tokens_that_are_not_signed_is_said(read: Read) -> None:
    config = read('disable_jwt_svids = true jwt_issuer = "x" experimental { wit_issuer = "w" }')
    assert (config.tokens.jwt, config.tokens.wit) == (False, False)
    assert [warning.split()[0] for warning in config.warnings] == ["jwt_issuer", "wit_issuer"]


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ("telemetry { Prometheus { port = 9988 } }", "telemetry.Prometheus is not supported yet"),
        ("telemetry { Promethius {} }", "did you mean 'Prometheus'?"),
        ("health_checks { live_pth = 1 }", "did you mean 'live_path'?"),
        ('health_checks { live_path = "live" }', "must begin with '/'"),
        ('health_checks { live_path = "/ready" }', "must differ"),
        ("servr {}", "did you mean 'server'?"),
    ],
)
def test_other_sections_are_checked_too(read: Read, top: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace("?", r"\?").replace(".", r"\.")):
        read(top=top)


def test_health_checks_that_are_off_are_off(read: Read) -> None:
    assert read(top="health_checks { listener_enabled = false }").health is None


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ('data_dir = "x"', "trust_domain must be configured"),
        ('trust_domain = "example.org"', "data_dir must be configured"),
        ('data_dir = "x" trust_domain = "Example.org"', "could not parse trust_domain"),
    ],
)
def test_what_must_be_there(read: Read, base: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read(base=base)


def test_a_trust_domain_may_be_written_as_an_id(read: Read) -> None:
    assert read(base='data_dir = "x" trust_domain = "spiffe://example.org"').trust_domain.name == "example.org"


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ('default_x509_svid_ttl = "5h"', "default_x509_svid_ttl to 4h0m0s or less, or the ca_ttl to 30h0m0s or more"),
        ('agent_ttl = "5h"', "agent_ttl is too high"),
        ('ca_ttl = "8760h"\ndefault_x509_svid_ttl = "200h"', "default_x509_svid_ttl to 168h0m0s or less"),
    ],
)
def test_svids_that_outlive_the_rotation_of_the_ca_are_warned_of(read: Read, server: str, words: str) -> None:
    (warning,) = read(server).warnings
    assert words in warning


def test_a_file_is_found_read_and_its_environment_expanded(tmp_path: Path) -> None:
    file = tmp_path / "server.conf"
    file.write_text(
        'server { trust_domain = "$TD" data_dir = "${DIR}/x" }\n'
        'plugins { DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "f" } }\n'
        'KeyManager "memory" {} }'
    )
    environ = {"TD": "example.org", "DIR": "/d"}
    config = load_config(Overrides(config=file, expand_env=True), environ, known_attestors())
    assert (config.trust_domain.name, config.data_dir) == ("example.org", Path("/d/x"))
    with pytest.raises(ConfigurationError, match="trust_domain"):
        load_config(Overrides(config=file), environ, known_attestors())


def test_a_json_file_is_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "server.conf"
    file.write_text(
        '{"server": {"trust_domain": "example.org", "data_dir": "d", "bind_port": 8082}, "plugins": {'
        '"DataStore": {"sql": {"plugin_data": {"database_type": "sqlite3", "connection_string": "f"}}},'
        '"KeyManager": [{"memory": {"plugin_data": {}}}]}}'
    )
    assert load_config(Overrides(config=file), {}, known_attestors()).listeners.port == 8082


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    missing = tmp_path / "none.conf"
    with pytest.raises(ConfigurationError, match=f"could not find config file {missing}: please use the -config flag"):
        load_config(Overrides(config=missing), {}, known_attestors())
