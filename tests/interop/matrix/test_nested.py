"""Upstream's server nested below the server of each cell: its CA is signed there, its JWT authority published there."""

import base64
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.spiffe import JWTSVID, BundleSet, TrustDomain, X509Bundle, parse_bundle_document
from authsec_sdk.spiffe.verify import verify_chain

UPSTREAM = os.environ.get("SPIRE_SERVER_BIN", "")
CA_TTL = "1h"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not UPSTREAM, reason="needs upstream's programs: set SPIRE_SERVER_BIN and SPIRE_AGENT_BIN"),
]

CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/private/api.sock"
  data_dir = "{folder}/data"
  log_level = "DEBUG"
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/data/db.sqlite3" }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  UpstreamAuthority "spire" {{
    plugin_data {{
      server_address = "127.0.0.1"
      server_port = "{above}"
      workload_api_socket = "{workload_api}"
    }}
  }}
}}
"""


@pytest.fixture
def nested(cell: Any) -> Iterator[Any]:
    """A command of a running server below the cell's."""
    folder: Path = cell.folder / "nested"
    (folder / "data").mkdir(parents=True, mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    workload_api = cell.workload_api.removeprefix("unix://")
    places = {"port": port, "above": cell.port, "folder": folder, "workload_api": workload_api}
    (folder / "server.conf").write_text(CONF.format(trust_domain=cell.trust_domain, **places))
    cell.register("/nested", "-downstream")
    cell.until(
        "the nested server has an identity",
        lambda: "/nested" in cell.agent_cli("api", "fetch", check=False).stdout,
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [UPSTREAM, *arguments, "-socketPath", f"{folder}/private/api.sock"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([UPSTREAM, "run", "-config", f"{folder}/server.conf"], stdout=log, stderr=log)
    try:

        def healthy() -> bool:
            assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
            return run("healthcheck").returncode == 0

        cell.until("the nested server is healthy", healthy)
        yield run
    finally:
        process.kill()
        process.wait()


def test_a_server_of_upstream_nests(cell: Any, nested: Any) -> None:
    domain = TrustDomain(cell.trust_domain)
    minted = json.loads(nested("x509", "mint", "-spiffeID", f"spiffe://{domain}/below", "-output", "json").stdout)
    chain = [x509.load_der_x509_certificate(base64.b64decode(link)) for link in minted["x509_svid"]]
    assert len(chain) == 2, "a leaf and the nested CA"
    roots = X509Bundle.parse_pem(domain, cell.server_cli("bundle", "show").stdout.encode())
    assert str(verify_chain(chain, BundleSet.of(roots), at=datetime.now(UTC))) == f"spiffe://{domain}/below"
    token = nested("jwt", "mint", "-spiffeID", f"spiffe://{domain}/below", "-audience", "a").stdout.strip()
    document = cell.server_cli("bundle", "show", "-format", "spiffe").stdout.encode()
    bundles = BundleSet.of(parse_bundle_document(domain, document).jwt_bundle())
    assert JWTSVID.parse_and_validate(token, bundles, ["a"], now=datetime.now(UTC)).id.path == "/below"
    assert cell.server_json("agent", "count")["count"] == 1, "a nested server is no agent"
