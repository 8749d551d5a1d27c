"""agent.conf: every documented setting honoured or refused by name, and every mistake told with its place."""

import dataclasses
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError
from icp_agent.bootstrap import BootstrapTrust, BundleFormat
from icp_agent.config import HealthListenerSettings, LogSettings, load_config
from icp_agent.config.raw import RawSettings
from icp_agent.domain.secrets import SecretNames, SecretSettings
from icp_agent.domain.trust_watch import RebootstrapMode, RebootstrapSettings
from icp_agent.keys import KeyType
from icp_agent.nodeattestors import join_token
from icp_agent.workloadattestors.unix import UnixSettings

AGENT = """
data_dir = "/var/lib/agent"
server_address = "server.example.org"
server_port = "8081"
trust_domain = "example.org"
trust_bundle_path = "/etc/bundle.pem"
"""
PLUGINS = """
plugins {
  KeyManager "disk" { plugin_data { directory = "/var/lib/agent/keys" } }
  NodeAttestor "join_token" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data { discover_workload_path = true  workload_size_limit = 1000 } }
}
"""


@pytest.fixture
def load(tmp_path):
    def load_(agent: str = "", *, plugins: str = PLUGINS, rest: str = "", base: str = AGENT, flags=None, environ=None):
        path = tmp_path / "agent.conf"
        path.write_text(f"agent {{{base}{textwrap.dedent(agent)}}}\n{plugins}\n{rest}\n")
        return load_config(path, flags or RawSettings(), environ=environ)

    return load_


def test_a_minimal_file(load):
    config = load()
    assert config.trust_domain.name == "example.org"
    assert (config.server_address, config.server_port) == ("server.example.org", 8081)
    assert config.data_dir == Path("/var/lib/agent")
    assert config.keys_directory == Path("/var/lib/agent/keys")
    assert config.trust == BootstrapTrust(path=Path("/etc/bundle.pem"))
    assert config.socket_path == Path("/tmp/spire-agent/public/api.sock")
    assert config.admin_socket_path is None
    assert config.workload_attestors == (UnixSettings(discover_workload_path=True, size_limit=1000),)
    assert config.sync.interval == timedelta(seconds=5)
    assert config.sync.svid_limit == 1000
    assert config.sync.key_type is KeyType.EC_P256
    assert config.paged_sync
    assert not config.allow_unauthenticated_verifiers
    assert config.log == LogSettings()
    assert config.health is None
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "get", "value"),
    [
        ('admin_socket_path = "/run/admin/a.sock"', lambda c: c.admin_socket_path, Path("/run/admin/a.sock")),
        ("allow_unauthenticated_verifiers = true", lambda c: c.allow_unauthenticated_verifiers, True),
        ('availability_target = "36h"', lambda c: c.sync.availability_target, timedelta(hours=36)),
        ("disable_workload_api = true", lambda c: (c.workload_api, c.sds is None), (False, False)),
        ("disable_sds_api = true", lambda c: (c.workload_api, c.sds is None), (True, True)),
        ("disable_workload_api = true\n disable_sds_api = true", lambda c: c.socket_path, None),
        ("disable_sds_api = false", lambda c: c.sds, SecretSettings()),
        ("sds {}", lambda c: c.sds, SecretSettings()),
        ('sds { default_svid_name = "x" }', lambda c: c.sds.names, SecretNames(default_svid="x")),
        ('sds { default_bundle_name = "x" }', lambda c: c.sds.names, SecretNames(default_bundle="x")),
        ('sds { default_all_bundles_name = "x" }', lambda c: c.sds.names, SecretNames(default_all_bundles="x")),
        ("sds { disable_spiffe_cert_validation = true }", lambda c: c.sds.disable_spiffe_cert_validation, True),
        ('join_token = "abc"', lambda c: c.join_token, "abc"),
        ('join_token_file = "/run/token"', lambda c: c.join_token_file, Path("/run/token")),
        ('log_level = "debug"', lambda c: c.log.level, "debug"),
        ('log_format = "JSON"', lambda c: c.log.format, "json"),
        ('log_file = "/var/log/agent"', lambda c: c.log.file, Path("/var/log/agent")),
        ("log_source_location = true", lambda c: c.log.source_location, True),
        ('log_selectors = ["unix:uid", "k8s:ns"]', lambda c: c.log_selectors, ("unix:uid", "k8s:ns")),
        ('socket_path = "/run/agent/api.sock"', lambda c: c.socket_path, Path("/run/agent/api.sock")),
        ('trust_bundle_format = "spiffe"', lambda c: c.trust.format, BundleFormat.SPIFFE),
        ('workload_x509_svid_key_type = "rsa-2048"', lambda c: c.sync.key_type, KeyType.RSA_2048),
        ('workload_x509_svid_key_type = "ec-p384"', lambda c: c.sync.key_type, KeyType.EC_P384),
        ("x509_svid_cache_max_size = 8", lambda c: c.sync.svid_limit, 8),
        ("x509_svid_cache_max_size = 0", lambda c: c.sync.svid_limit, 1000),
        ('experimental { sync_interval = "1m30s" }', lambda c: c.sync.interval, timedelta(seconds=90)),
        ("experimental { use_sync_authorized_entries = false }", lambda c: c.paged_sync, False),
        ('rebootstrap_mode = "never"', lambda c: c.warnings, ()),
        ('allowed_foreign_jwt_claims = ["x"]', lambda c: c.allowed_foreign_jwt_claims, {"x"}),
        ("jwt_svid_cache_max_size = 5", lambda c: c.jwt.limit, 5),
        ("jwt_svid_cache_max_size = 0", lambda c: c.jwt.limit, 1000),
        ('experimental { jwt_svid_cache_hit_timeout = "10s" }', lambda c: c.jwt.hit_timeout, timedelta(seconds=10)),
        ('rebootstrap_mode = "auto"', lambda c: c.rebootstrap, RebootstrapSettings(RebootstrapMode.AUTO)),
        (
            'rebootstrap_mode = "always" rebootstrap_delay = "1m"',
            lambda c: c.rebootstrap,
            RebootstrapSettings(RebootstrapMode.ALWAYS, timedelta(minutes=1)),
        ),
    ],
)
def test_settings_that_are_honoured(load, text, get, value):
    assert get(load(text)) == value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('authorized_delegates = ["spiffe://example.org/x"]', "authorized_delegates"),
        ("profiling_enabled = true", "profiling_enabled"),
        ("experimental { require_pq_kem = true }", "require_pq_kem"),
        ('experimental { feature_flags = ["x"] }', "feature_flags"),
        ("experimental { ratelimit { fetch_x509_svid = 10 } }", "fetch_x509_svid"),
        ('experimental { broker { socket_path = "/x" } }', "broker"),
        ('experimental { named_pipe_name = "x" }', "named_pipe_name"),
    ],
)
def test_settings_that_come_later_are_refused_by_name_and_place(load, text, name):
    with pytest.raises(ConfigurationError, match=name) as caught:
        load(text)
    assert caught.value.line == 7
    assert str(caught.value).startswith(caught.value.file)


@pytest.mark.parametrize(
    "text",
    [
        "profiling_enabled = false\n profiling_port = 6060\n profiling_freq = 5\n profiling_names = []",
        "experimental { require_pq_kem = false\n feature_flags = []\n ratelimit { stream_secrets = 0 } }",
    ],
)
def test_a_later_setting_that_asks_for_nothing_passes(load, text):
    assert load(text).warnings == ()


def test_settings_without_effect_are_told(load):
    config = load('rebootstrap_delay = "5m"')
    assert [warning.split(" has")[0] for warning in config.warnings] == ["rebootstrap_delay"]


@pytest.mark.parametrize(
    ("key", "near"),
    [("sever_address", "server_address"), ("trust_domian", "trust_domain"), ("socketpath", "socket_path")],
)
def test_an_unknown_key_names_the_nearest(load, key, near):
    with pytest.raises(ConfigurationError, match=f"unknown key '{key}' in agent; did you mean '{near}'") as caught:
        load(f'{key} = "x"')
    assert (caught.value.line, caught.value.column) == (7, 1)


@pytest.mark.parametrize(
    ("base", "agent", "words"),
    [
        (AGENT.replace("server_address", "#"), "", "server_address must be configured"),
        (AGENT.replace("server_port", "#"), "", "server_port must be configured"),
        (AGENT.replace("trust_domain", "#"), "", "trust_domain must be configured"),
        (AGENT.replace('"example.org"', '"UPPER case"'), "", "could not parse trust_domain"),
        (AGENT.replace("trust_bundle_path", "#"), "", "must be configured unless insecure_bootstrap"),
        (AGENT, "insecure_bootstrap = true", "only one of insecure_bootstrap or trust_bundle_path"),
        (AGENT, 'trust_bundle_url = "https://x"', "only one of trust_bundle_url or trust_bundle_path"),
        (AGENT.replace("trust_bundle_path", "#"), 'trust_bundle_url = "http://x"', "must start with https://"),
        (AGENT, 'trust_bundle_format = "der"', "trust_bundle_format"),
        (AGENT, 'join_token = "x"\n join_token_file = "y"', "only one of join_token or join_token_file"),
        (AGENT, 'availability_target = "1h"', "at least 24h0m0s"),
        (AGENT, "x509_svid_cache_max_size = -1", "should not be negative"),
        (AGENT, 'workload_x509_svid_key_type = "dsa"', "workload_x509_svid_key_type"),
        (AGENT, 'log_level = "loud"', "log level"),
        (AGENT, 'log_format = "xml"', "log format"),
        (AGENT, 'experimental { sync_interval = "soon" }', "sync_interval"),
        (AGENT, 'experimental { sync_interval = "0s" }', "sync_interval"),
        (AGENT, "server_address = 1.5.5", "agent.conf:"),
        (
            AGENT,
            'socket_path = "/run/a"\n admin_socket_path = "/run/b"',
            "admin socket cannot be in the same directory",
        ),
        (AGENT, 'sds { default_svid_name = "ROOTCA" }', "must differ"),
        (AGENT, 'sds { default_bundle_name = "x"\n default_all_bundles_name = "x" }', "must differ"),
        (AGENT, 'sds { default_svid = "x" }', "did you mean 'default_svid_name'"),
        (AGENT, 'admin_socket_path = "/tmp/spire-agent/public/x/a.sock"', "admin socket cannot be in the same"),
        (AGENT, 'admin_socket_path = "/tmp/spire-agent/public/../public/a.sock"', "admin socket cannot be in the same"),
    ],
)
def test_what_is_wrong_is_told(load, base, agent, words):
    with pytest.raises(ConfigurationError, match=words):
        load(agent, base=base)


def test_the_admin_socket_behind_a_link_into_the_public_folder(load, tmp_path):
    (tmp_path / "public").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "public")
    with pytest.raises(ConfigurationError, match="admin socket cannot be in the same"):
        load(f'socket_path = "{tmp_path}/public/api.sock"\n admin_socket_path = "{tmp_path}/link/admin.sock"')


class TestPlugins:
    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [
            ('KeyManager "disk"', 'KeyManager "aws_kms"', "no KeyManager 'aws_kms'; there are: disk, memory"),
            ('NodeAttestor "join_token"', 'NodeAttestor "aws_iid"', "'aws_iid' is not supported yet"),
            ('NodeAttestor "join_token"', 'NodeAttestor "magic"', "no NodeAttestor 'magic'; there are: .*join_token"),
            ('WorkloadAttestor "unix"', 'WorkloadAttestor "slurm"', "'slurm' is not supported yet"),
            ('WorkloadAttestor "unix"', 'WorkloadAtestor "unix"', "did you mean 'WorkloadAttestor'"),
            ("discover_workload_path", "discover_workload_pth", "did you mean 'discover_workload_path'"),
            ("directory = ", "folder = ", "unknown key 'folder'"),
            ('directory = "/var/lib/agent/keys"', "", "needs a 'directory'"),
            ("plugin_data {} }", "plugin_data { x = 1 } }", "unknown key 'x'"),
            ("plugin_data {} }", 'plugin_cmd = "/bin/x" }', "external plugins"),
            ("plugin_data {} }", "plugin_dta {} }", "did you mean 'plugin_data'"),
            ("plugin_data {} }", 'plugin_data {}\n plugin_data_file = "x" }', "only one of"),
            ("plugin_data {} }", "enabled = false }", "exactly one NodeAttestor must be configured, not 0"),
            (
                "NodeAttestor",
                'KeyManager "memory" {}\n NodeAttestor',
                "exactly one KeyManager must be configured, not 2",
            ),
            ("NodeAttestor", 'SVIDStore "aws_secretsmanager" {}\n NodeAttestor', "not supported yet"),
        ],
    )
    def test_mistakes(self, load, before, after, words):
        assert before in PLUGINS
        with pytest.raises(ConfigurationError, match=words) as caught:
            load(plugins=PLUGINS.replace(before, after, 1))
        assert caught.value.line

    def test_keys_in_memory(self, load):
        plugins = PLUGINS.replace('"disk" { plugin_data { directory = "/var/lib/agent/keys" } }', '"memory" {}')
        assert load(plugins=plugins).keys_directory is None

    def test_data_in_a_file(self, load, tmp_path):
        (tmp_path / "unix.conf").write_text("workload_size_limit = 7")
        plugins = """plugins { KeyManager "memory" {} NodeAttestor "join_token" {}
            WorkloadAttestor "unix" { plugin_data_file = "%s" } }""" % (tmp_path / "unix.conf")
        assert load(plugins=plugins).workload_attestors == (UnixSettings(size_limit=7),)

    def test_a_disabled_plugin_is_not_looked_at(self, load):
        plugins = PLUGINS.replace("NodeAttestor", 'WorkloadAttestor "docker" { enabled = false }\n NodeAttestor', 1)
        assert load(plugins=plugins).node_attestor is join_token.make

    def test_sections_must_be_there(self, load, tmp_path):
        with pytest.raises(ConfigurationError, match="plugins section must be configured"):
            load(plugins="")
        (tmp_path / "x.conf").write_text(PLUGINS)
        with pytest.raises(ConfigurationError, match="agent section must be configured"):
            load_config(tmp_path / "x.conf")


class TestRest:
    def test_health_checks(self, load):
        config = load(rest='health_checks { listener_enabled = true bind_port = "8080" live_path = "/l" }')
        assert config.health == HealthListenerSettings("localhost", 8080, "/l", "/ready")
        assert load(rest="health_checks { bind_port = 1 }").health is None

    def test_in_memory_telemetry_passes_and_sinks_come_later(self, load):
        load(rest="telemetry { InMem {} }")
        with pytest.raises(ConfigurationError, match="Prometheus"):
            load(rest="telemetry { Prometheus { port = 9988 } }")

    def test_unknown_sections(self, load):
        with pytest.raises(ConfigurationError, match="unknown key 'agnt'"):
            load(rest="agnt {}")


class TestFlags:
    def test_they_win_over_the_file(self, load):
        config = load(flags=RawSettings(server_address="other", server_port=1, log_level="warn"))
        assert (config.server_address, config.server_port, config.log.level) == ("other", 1, "warn")

    def test_every_raw_setting_can_be_overridden(self):
        for field in dataclasses.fields(RawSettings):
            said = RawSettings(**{field.name: "x"})
            assert getattr(RawSettings().overridden_by(said), field.name) == "x"


def test_environment_variables(load):
    base = AGENT.replace('"example.org"', '"${DOMAIN}"')
    assert load(base=base, environ={"DOMAIN": "from.env"}).trust_domain.name == "from.env"
    with pytest.raises(ConfigurationError):
        load(base=base)


def test_json_is_a_configuration_too(tmp_path):
    path = tmp_path / "agent.conf"
    path.write_text(
        """{"agent": {"server_address": "s", "server_port": 1, "trust_domain": "example.org",
        "insecure_bootstrap": true}, "plugins": {"KeyManager": {"memory": {}}, "NodeAttestor": {"join_token": {}},
        "WorkloadAttestor": {"unix": {"plugin_data": {}}}}}"""
    )
    assert load_config(path).trust.insecure


def test_the_token_is_not_shown(load):
    assert "s3cr3t" not in repr(load('join_token = "s3cr3t"'))
    assert "s3cr3t" not in repr(RawSettings(join_token="s3cr3t"))


def test_a_missing_file_is_named_in_upstreams_words(tmp_path):
    with pytest.raises(ConfigurationError, match=r"could not find config file .*: please use the -config flag"):
        load_config(tmp_path / "nowhere.conf")
