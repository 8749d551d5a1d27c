"""A server below the cell's own, ours and upstream's: known to it as a downstream workload of the cell's agent."""

import base64
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.errors import SpiffeError
from authsec_sdk.spiffe import X509SVID, BundleSet, TrustDomain, X509Bundle
from authsec_sdk.spiffe.verify import verify_chain

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/private/api.sock"
  data_dir = "{folder}/data"
  log_level = "DEBUG"
  ca_ttl = "1h"
  default_x509_svid_ttl = "1m"
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{folder}/data/datastore.sqlite3"
    }}
  }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  CredentialComposer "uniqueid" {{ plugin_data {{}} }}
  UpstreamAuthority "spire" {{
    plugin_data {{
      server_address = "127.0.0.1"
      server_port = "{above}"
      workload_api_socket = "{agent}"
    }}
  }}
}}
"""


class Below:
    """A running server below a cell's."""

    def __init__(self, command: list[str], folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.command, self.folder, self.process = command, folder, process

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*self.command, *arguments, "-socketPath", f"{self.folder}/private/api.sock"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def mint(self) -> X509SVID:
        out = self.folder / "minted"
        out.mkdir(exist_ok=True)
        done = self.cli("x509", "mint", "-spiffeID", "spiffe://interop.test/minted", "-write", str(out))
        assert done.returncode == 0, done.stderr
        return X509SVID.parse_pem((out / "svid.pem").read_bytes(), (out / "key.pem").read_bytes())


def _until(what: str, done: Callable[[], Any], log: Path) -> Any:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if answer := done():
            return answer
        time.sleep(0.25)
    return pytest.fail(f"not within 120 s: {what}\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="module", params=["upstream", "ours"], ids=lambda side: f"{side}-below")
def below(cell: Any, request: pytest.FixtureRequest) -> Iterator[Below]:
    """Start a server below the cell's own; with upstream's it needs upstream's program."""
    matrix = request.getfixturevalue("program_of")
    command = matrix("server", request.param)
    if cell.server_json("entry", "count", "-spiffeID", f"spiffe://{cell.trust_domain}/below")["count"] == 0:
        cell.register("/below", "-downstream", "-x509SVIDTTL", "600")
    folder = Path(tempfile.mkdtemp(prefix="nested-"))
    for part in ("private", "data"):
        (folder / part).mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    agent = cell.workload_api.removeprefix("unix://")
    conf = CONF.format(folder=folder, port=port, above=cell.port, agent=agent, trust_domain=cell.trust_domain)
    (folder / "server.conf").write_text(conf)
    log = folder / "server.log"
    with log.open("ab") as output:
        start = [*command, "run", "-config", f"{folder}/server.conf"]
        process = subprocess.Popen(start, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        running = Below(command, folder, process)

        def healthy() -> bool:
            if running.process.poll() is not None:  # the agent had not heard of the entry yet
                running.process = subprocess.Popen(start, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
            return running.cli("healthcheck").returncode == 0

        try:
            _until("the server below is healthy", healthy, log)
            yield running
        finally:
            running.process.kill()
            running.process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _roots(cell: Any) -> X509Bundle:
    return X509Bundle.parse_pem(TrustDomain.parse(cell.trust_domain), cell.server_cli("bundle", "show").stdout.encode())


def _verifies(cell: Any, svid: X509SVID) -> bool:
    try:
        return verify_chain(svid.certificates, BundleSet.of(_roots(cell)), at=datetime.now(UTC)) == svid.id
    except SpiffeError:
        return False


def test_x509_svids_of_the_server_below_verify_above(cell: Any, below: Below) -> None:
    svid = below.mint()
    assert len(svid.certificates) == 2
    assert _verifies(cell, svid)
    assert "2.5.4.45=" in svid.leaf.subject.rfc4514_string()


def test_jwt_svids_of_the_server_below_verify_above(cell: Any, below: Below) -> None:
    done = below.cli("jwt", "mint", "-spiffeID", "spiffe://interop.test/minted", "-audience", "a")
    assert done.returncode == 0, done.stderr
    key_id = json.loads(base64.urlsafe_b64decode(done.stdout.split(".")[0] + "=="))["kid"]
    document = json.loads(cell.server_cli("bundle", "show", "-format", "spiffe").stdout)
    assert key_id in [key.get("kid") for key in document["keys"]]


def test_authorities_below_an_upstream_one_are_not_tainted_by_hand(below: Below) -> None:
    shown = json.loads(below.cli("localauthority", "x509", "show", "-output", "json").stdout)["active"]
    upstream = shown["upstream_authority_subject_key_id"]
    assert re.fullmatch("[0-9a-f]{40}", upstream)
    for arguments, words in (
        (
            ("localauthority", "x509", "taint", "-authorityID", shown["authority_id"]),
            "local authority can't be tainted",
        ),
        (("upstreamauthority", "taint", "-subjectKeyID", upstream), "singing current authority"),
        (("upstreamauthority", "revoke", "-subjectKeyID", upstream), "singing current authority"),
        (("upstreamauthority", "taint", "-subjectKeyID", "00" * 20), "didn't sign the old local authority"),
    ):
        done = below.cli(*arguments)
        assert done.returncode == 1
        assert words in done.stdout + done.stderr


def test_an_authority_tainted_above_is_left_below(cell: Any, below: Below) -> None:
    """Last of the module: it moves the cell's authority."""
    before = below.mint().certificates[-1]
    prepared = cell.server_json("localauthority", "x509", "prepare")["prepared_authority"]["authority_id"]
    cell.server_json("localauthority", "x509", "activate", "-authorityID", prepared)
    old = cell.server_json("localauthority", "x509", "show")["old"]["authority_id"]
    cell.server_json("localauthority", "x509", "taint", "-authorityID", old)

    def left() -> bool:
        chain = below.mint()
        return chain.certificates[-1] != before and _verifies(cell, chain)

    _until("the server below signs below the new authority", left, below.folder / "server.log")
    cell.until("the agent goes on", lambda: cell.agent_cli("healthcheck", check=False).returncode == 0)
