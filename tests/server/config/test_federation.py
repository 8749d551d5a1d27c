"""The `federation` section: read as SPIRE's documentation has it, and refused by name where it is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from authsec_sdk import hcl
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.config import Overrides
from icp_server.config.federation import Federation, ServedBundle, ServingFiles
from icp_server.config.load import parse_config
from icp_server.config.model import ServerConfig
from icp_server.domain.federation import Endpoint
from icp_server.nodeattestors.registry import known_attestors

FILE = """
server {
  trust_domain = "example.org"
  data_dir = "data"
  federation {
    %s
  }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "data/db.sqlite3" } }
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
}
"""


def read(section: str) -> ServerConfig:
    return parse_config(hcl.parse(FILE % section, "server.conf"), Overrides(), known_attestors())


def test_nothing_is_the_default() -> None:
    assert read("").federation == Federation()


def test_everything() -> None:
    config = read(
        """
        bundle_endpoint {
          address = "::1"
          port = 8443
          refresh_hint = "10m"
          profile "https_web" {
            serving_cert_file { cert_file_path = "c.pem" key_file_path = "k.pem" file_sync_interval = "30s" }
          }
        }
        federates_with "fed1.example" {
          bundle_endpoint_url = "https://fed1.example/bundle"
          bundle_endpoint_profile "https_web" {}
        }
        federates_with "spiffe://fed2.example" {
          bundle_endpoint_url = "https://fed2.example:8443"
          bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://fed2.example/spire/server" }
        }
        """
    )
    assert config.warnings == ()
    files = ServingFiles(Path("c.pem"), Path("k.pem"), timedelta(seconds=30))
    assert config.federation.served == ServedBundle("::1", 8443, timedelta(minutes=10), files)
    assert dict(config.federation.federates_with) == {
        TrustDomain("fed1.example"): Endpoint("https://fed1.example/bundle"),
        TrustDomain("fed2.example"): Endpoint(
            "https://fed2.example:8443", SpiffeID.parse("spiffe://fed2.example/spire/server")
        ),
    }


def test_an_endpoint_with_nothing_said_is_https_spiffe_at_443() -> None:
    config = read("bundle_endpoint {}")
    assert config.federation.served == ServedBundle("0.0.0.0", 443, timedelta(minutes=5), None)
    (warning,) = config.warnings
    assert "https_spiffe" in warning
    assert read('bundle_endpoint { profile "https_spiffe" {} }').warnings == ()


@pytest.mark.parametrize(("hint", "read_as"), [("1s", 60), ("48h", 172800)])
def test_odd_hints_are_warned_of(hint: str, read_as: int) -> None:
    config = read(f'bundle_endpoint {{ refresh_hint = "{hint}" profile "https_spiffe" {{}} }}')
    assert config.federation.served is not None
    assert config.federation.served.refresh_hint == timedelta(seconds=read_as)
    (warning,) = config.warnings
    assert "refresh_hint" in warning


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ('bundle_endpoint { profile "https_web" { acme { domain_name = "x" } } }', "by ACME"),
        ("bundle_endpoint { acme {} }", "by ACME"),
        ('bundle_endpoint { profile "https_web" {} }', "needs serving_cert_file"),
        ('bundle_endpoint { profile "https_web" { serving_cert_file { cert_file_path = "c" } } }', "key_file_path"),
        ('bundle_endpoint { profile "http" {} }', "is unknown"),
        ('bundle_endpoint { profile "https_web" {} profile "https_spiffe" {} }', "needs one profile, not 2"),
        ('bundle_endpoint { profile "https_spiffe" { acme {} } }', "unknown key 'acme'"),
        ("bundle_endpoint { port = 70000 }", "at most 65535"),
        ("bundle_endpoints {}", "did you mean 'bundle_endpoint'"),
        ('federates_with "No Domain" {}', "is no trust domain"),
        ('federates_with "example.org" { bundle_endpoint_url = "https://x" }', "own trust domain"),
        ('federates_with "a.example" { bundle_endpoint_profile "https_web" {} }', "bundle_endpoint_url must be"),
        ('federates_with "a.example" { bundle_endpoint_url = "http://x" }', "is not https"),
        ('federates_with "a.example" { bundle_endpoint_url = "https://x" }', "needs one bundle_endpoint_profile"),
        (
            'federates_with "a.a" { bundle_endpoint_url = "https://x" bundle_endpoint_profile "https_spiffe" {} }',
            "could not get endpoint SPIFFE ID",
        ),
        (
            (
                'federates_with "a.example" { bundle_endpoint_url = "https://x" '
                'bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://a.example" } }'
            ),
            "name the SPIFFE ID of the server",
        ),
    ],
)
def test_what_is_wrong_has_a_place(section: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.conf:\d+:\d+: ") as caught:
        read(section)
    assert text in str(caught.value)
