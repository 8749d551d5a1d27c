"""The demo's own server and agent: configuration written, processes started, workloads registered."""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.processes import Processes, ProcessFailedError

ROOT = Path(__file__).resolve().parent.parent
TRUST_DOMAIN = "demo.example"
NODE = f"spiffe://{TRUST_DOMAIN}/node"
WORKLOADS = ("payments", "frontend", "intruder")
STRANGER = "stranger"

_SERVER_CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = {port}
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/server/private/api.sock"
  data_dir = "{folder}/server/data"
  log_level = "INFO"
  ca_ttl = "1h"
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

_AGENT_CONF = """
agent {{
  server_address = "127.0.0.1"
  server_port = {port}
  trust_domain = "{trust_domain}"
  socket_path = "{folder}/agent/public/api.sock"
  data_dir = "{folder}/agent/data"
  trust_bundle_path = "{folder}/bundle.pem"
  log_level = "INFO"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{folder}/agent/data" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{ discover_workload_path = true }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the running server and agent are, and the interpreter each workload runs on."""

    folder: Path
    processes: Processes
    interpreters: dict[str, Path]

    @property
    def workload_api(self) -> str:
        """The Workload API's address, as ``SPIFFE_ENDPOINT_SOCKET`` takes it."""
        return f"unix://{self.folder}/agent/public/api.sock"

    @property
    def workload_env(self) -> dict[str, str]:
        """What a workload finds in its environment."""
        return {"SPIFFE_ENDPOINT_SOCKET": self.workload_api, "PYTHONPATH": os.pathsep.join(_import_path())}


async def start(
    folder: Path,
    processes: Processes,
    *,
    svid_ttl: int,
    by_path: bool,
    server: Sequence[str] = (sys.executable, "-m", "icp_server"),
    agent: Sequence[str] = (sys.executable, "-m", "icp_agent"),
) -> ControlPlane:
    """Start server and agent in a folder and register the workloads, told apart by path unless ``by_path`` is False.

    ``server`` and ``agent`` are the commands to start; upstream's take the same files and arguments.

    Raises:
        ProcessFailedError: when any of it does not come up.

    """
    port = _free_port()
    interpreters = {name: _copy_interpreter(folder / "bin" / name) for name in (*WORKLOADS, STRANGER)}
    for part in ("server/private", "server/data", "agent/public", "agent/data"):
        (folder / part).mkdir(parents=True, mode=0o700)
    (folder / "agent").chmod(0o755)
    (folder / "agent/public").chmod(0o755)
    values = {"port": port, "trust_domain": TRUST_DOMAIN, "folder": folder}
    (folder / "server.conf").write_text(_SERVER_CONF.format(**values))
    (folder / "agent.conf").write_text(_AGENT_CONF.format(**values))
    plane = ControlPlane(folder, processes, interpreters)
    admin = ["-socketPath", f"{folder}/server/private/api.sock"]

    env = {"PYTHONPATH": os.pathsep.join(_import_path())}
    await processes.start("server", [*server, "run", "-config", f"{folder}/server.conf"], env)
    await _until_healthy(processes, "server", [*server, "healthcheck", *admin], env)
    bundle = await processes.run("bundle", [*server, "bundle", "show", *admin], env)
    (folder / "bundle.pem").write_text(bundle + "\n")
    answer = await processes.run("token", [*server, "token", "generate", "-spiffeID", NODE, *admin], env)
    token = answer.split("Token:")[1].split()[0]
    entries = folder / "entries.json"
    entries.write_text(json.dumps({"entries": [_entry(plane, name, svid_ttl, by_path) for name in WORKLOADS]}))
    await processes.run("entries", [*server, "entry", "create", "-data", str(entries), *admin], env)

    await processes.start("agent", [*agent, "run", "-config", f"{folder}/agent.conf", "-joinToken", token], env)
    health = [*agent, "healthcheck", "-socketPath", f"{folder}/agent/public/api.sock"]
    await _until_healthy(processes, "agent", health, env)
    return plane


def _entry(plane: ControlPlane, name: str, ttl: int, by_path: bool) -> dict[str, object]:
    interpreter = plane.interpreters[name]
    selectors = [f"uid:{os.getuid()}"]
    if by_path:
        selectors += [f"path:{interpreter}", f"sha256:{hashlib.sha256(interpreter.read_bytes()).hexdigest()}"]
    return {
        "spiffe_id": f"spiffe://{TRUST_DOMAIN}/{name}",
        "parent_id": NODE,
        "selectors": [{"type": "unix", "value": value} for value in selectors],
        "x509_svid_ttl": ttl,
    }


async def _until_healthy(processes: Processes, name: str, check: list[str], env: Mapping[str, str]) -> None:
    for _ in range(40):
        if name in processes.ended():
            break
        try:
            await processes.run(f"{name}-healthcheck", check, env)
        except ProcessFailedError:
            await asyncio.sleep(0.25)
        else:
            return
    raise ProcessFailedError(f"{name} did not come up:\n{processes.tail(name)}")


def _import_path() -> list[str]:
    """What a bare copy of the interpreter must be told to find this project and what it needs."""
    return [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]


def _copy_interpreter(folder: Path) -> Path:
    """Make an interpreter copy of its own, so that the kernel names each workload by another path."""
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", "--copies", "--without-pip", str(folder)], check=True, capture_output=True)
    return (folder / "bin" / "python3").resolve()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
