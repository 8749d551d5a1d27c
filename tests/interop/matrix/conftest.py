"""The four cells of the matrix: {our server, upstream} x {our agent, upstream}, processes run from the same files.

Upstream's programs are named by SPIRE_SERVER_BIN and SPIRE_AGENT_BIN, or found on PATH; without them their cells skip.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OURS, UPSTREAM = "ours", "upstream"
TRUST_DOMAIN = "interop.test"
NODE = f"spiffe://{TRUST_DOMAIN}/node"
_DEADLINE = 60.0

SERVER_CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/server/private/api.sock"
  data_dir = "{folder}/server/data"
  log_level = "DEBUG"
  ca_ttl = "{ca_ttl}"
  default_x509_svid_ttl = "20s"
  agent_ttl = "10m"
  ratelimit {{ attestation = false }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{folder}/server/data/datastore.sqlite3"
    }}
  }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/server/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

AGENT_CONF = """
agent {{
  server_address = "127.0.0.1"
  server_port = "{port}"
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/agent/public/api.sock"
  data_dir = "{folder}/agent/data"
  trust_bundle_path = "{folder}/bundle.pem"
  log_level = "DEBUG"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{folder}/agent/data" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{ discover_workload_path = true }} }}
}}
"""


def _agent_conf(port: int, folder: Path) -> str:
    return AGENT_CONF.format(port=port, trust_domain=TRUST_DOMAIN, folder=folder)


def program(kind: str, side: str) -> list[str]:
    """Return the command that runs a server or an agent, or skip with one line."""
    if side == OURS:
        return [sys.executable, "-m", f"icp_{kind}"]
    found = os.environ.get(f"SPIRE_{kind.upper()}_BIN") or shutil.which(f"spire-{kind}")
    if not found:
        pytest.skip("upstream is not here: set SPIRE_SERVER_BIN and SPIRE_AGENT_BIN to spire-server and spire-agent")
    return [found]


@dataclass
class Cell:
    """One server and one agent, with the folder that holds all they keep."""

    server_side: str
    agent_side: str
    folder: Path
    port: int
    server: list[str]
    agent: list[str]
    trust_domain: str = TRUST_DOMAIN
    token: str = ""
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.server_side} server, {self.agent_side} agent"

    @property
    def workload_api(self) -> str:
        return f"unix://{self.folder}/agent/public/api.sock"

    def start_server(self) -> None:
        self._start("server", [*self.server, "run", "-config", f"{self.folder}/server.conf"])
        self._until("server healthy", lambda: self.server_cli("healthcheck", check=False).returncode == 0)

    def start_agent(self, *more: str) -> None:
        self._start("agent", [*self.agent, "run", "-config", f"{self.folder}/agent.conf", *more])
        self._until("agent healthy", lambda: self.agent_cli("healthcheck", check=False).returncode == 0)

    def stop(self, kind: str) -> None:
        process = self._running.pop(kind)
        process.terminate()
        process.wait(_DEADLINE)

    def server_cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._cli([*self.server, *arguments, "-socketPath", f"{self.folder}/server/private/api.sock"], check)

    def agent_cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._cli([*self.agent, *arguments, "-socketPath", f"{self.folder}/agent/public/api.sock"], check)

    def server_json(self, *arguments: str) -> Any:
        return json.loads(self.server_cli(*arguments, "-output", "json").stdout)

    def bring_up(self) -> None:
        """Start both, the agent by a join token."""
        self.start_server()
        (self.folder / "bundle.pem").write_text(self.server_cli("bundle", "show").stdout)
        self.token = self.server_cli("token", "generate", "-spiffeID", NODE).stdout.split("Token:")[1].split()[0]
        self.start_agent("-joinToken", self.token)

    @contextmanager
    def second_agent(self, token: str) -> Iterator[Path]:
        """Run another agent of the same kind with its own data; give the path of its log."""
        folder = self.folder / "second"
        for part, mode in (("agent/public", 0o755), ("agent/data", 0o700)):
            (folder / part).mkdir(parents=True)
            (folder / part).chmod(mode)
        shutil.copy(self.folder / "bundle.pem", folder)
        (folder / "agent.conf").write_text(_agent_conf(self.port, folder))
        command = [*self.agent, "run", "-config", f"{folder}/agent.conf", "-joinToken", token]
        with (folder / "agent.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                yield folder / "agent.log"
            finally:
                process.kill()

    def register(self, path: str, *more: str, selector: str = f"unix:uid:{os.getuid()}") -> str:
        """Register a workload, known by this process's user unless told otherwise; return its SPIFFE ID."""
        spiffe_id = f"spiffe://{TRUST_DOMAIN}{path}"
        self.server_cli("entry", "create", "-parentID", NODE, "-spiffeID", spiffe_id, "-selector", selector, *more)
        return spiffe_id

    def log(self, kind: str) -> str:
        return (self.folder / f"{kind}.log").read_text(errors="replace")

    def alive(self, kind: str) -> bool:
        return self._running[kind].poll() is None

    def until(self, what: str, done: Any) -> Any:
        """Poll until something is true; fail with both logs when it never is."""
        return self._until(what, done)

    def _start(self, kind: str, command: list[str]) -> None:
        with (self.folder / f"{kind}.log").open("ab") as log:
            self._running[kind] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _cli(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def _until(self, what: str, done: Any) -> Any:
        end = time.monotonic() + 2 * _DEADLINE
        while time.monotonic() < end:
            if answer := done():
                return answer
            time.sleep(0.25)
        tails = "\n".join(f"--- {kind}\n{self.log(kind)[-3000:]}" for kind in self._running)
        return pytest.fail(f"{self.name}: not within {2 * _DEADLINE:.0f} s: {what}\n{tails}")

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


# Tests of one cell and module run on one worker, so that each brings its processes up once.
CELLS = [
    pytest.param(
        (server, agent), id=f"{server}-server-{agent}-agent", marks=pytest.mark.xdist_group(f"{server}-{agent}")
    )
    for server in (UPSTREAM, OURS)
    for agent in (UPSTREAM, OURS)
]


@pytest.fixture(scope="module")
def program_of() -> Callable[[str, str], list[str]]:
    """Give tests that start programs beside the cell their commands."""
    return program


@pytest.fixture(scope="module", params=CELLS)
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    """One running cell, shared by the scenarios of a module, which may say how long its authorities live (CA_TTL)."""
    server_side, agent_side = request.param
    server, agent = program("server", server_side), program("agent", agent_side)
    folder = Path(tempfile.mkdtemp(prefix="interop-"))
    folder.chmod(0o755)
    for part, mode in (
        ("server/private", 0o700),
        ("server/data", 0o700),
        ("agent/public", 0o755),
        ("agent/data", 0o700),
    ):
        (folder / part).mkdir(parents=True)
        (folder / part).chmod(mode)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "server.conf").write_text(
        SERVER_CONF.format(
            port=port, trust_domain=TRUST_DOMAIN, folder=folder, ca_ttl=getattr(request.module, "CA_TTL", "1m")
        )
    )
    (folder / "agent.conf").write_text(_agent_conf(port, folder))
    running = Cell(server_side, agent_side, folder, port, server, agent)
    try:
        running.bring_up()
        yield running
    finally:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what docs/interop.md holds: one row a scenario, one column a cell, and the versions."""
    rows: dict[str, dict[str, str]] = {}
    marks = {"passed": "yes", "failed": "**NO**", "error": "**NO**", "skipped": "–"}
    for outcome, mark in marks.items():
        for report in terminalreporter.stats.get(outcome, []):
            name, _, cell_id = str(getattr(report, "nodeid", "")).partition("[")
            if "/matrix/" in name and cell_id and getattr(report, "when", "call") in ("call", "setup"):
                scenario = name.rsplit("::test_", 1)[-1].replace("_", " ")
                rows.setdefault(scenario, {})[cell_id.removesuffix("]").split("@")[0]] = mark
    if not rows:
        return
    columns = [str(cell.id) for cell in CELLS]
    write = terminalreporter.write_line
    write("")
    write(
        "| scenario | "
        + " | ".join(column.replace("-", " ").replace("server ", "server, ") for column in columns)
        + " |"
    )
    write("|---|" + "---|" * len(columns))
    for scenario, cells in rows.items():
        write(f"| {scenario} | " + " | ".join(cells.get(column, "–") for column in columns) + " |")
    for kind in ("server", "agent"):
        if binary := os.environ.get(f"SPIRE_{kind.upper()}_BIN") or shutil.which(f"spire-{kind}"):
            done = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False)
            write(f"upstream {kind}: {(done.stdout or done.stderr).strip()}")
