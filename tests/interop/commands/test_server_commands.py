"""The same commands by both programs on both servers: what upstream's program prints on upstream's server is right.

Needs upstream's `spire-server`, named by SPIRE_SERVER_BIN.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

UPSTREAM = os.environ.get("SPIRE_SERVER_BIN", "")
OURS = [sys.executable, "-m", "icp_server"]
ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not UPSTREAM, reason="needs upstream's programs: set SPIRE_SERVER_BIN and SPIRE_AGENT_BIN"),
]

CONFIG = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "example.org"
  socket_path = "{folder}/private/api.sock"
  data_dir = "{folder}/data"
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/data/db.sqlite3" }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

A = "-spiffeID spiffe://example.org/a -parentID spiffe://example.org/p"
COMMANDS = f"""
healthcheck -verbose
entry create
entry create -selector unix:uid:0
entry create {A} -selector unix -entryID e1
entry create {A} -selector unix:uid:0 -entryID e1 -dns b.x -dns a.x -x509SVIDTTL 60 --hint h -admin -downstream
entry create {A} -selector unix:uid:0
entry create {A} -selector unix:uid:0 -output json
entry create -spiffeID spiffe://other.org/a -parentID spiffe://example.org/p -selector unix:uid:0
entry create -spiffeID spiffe://other.org/a -parentID spiffe://example.org/p -selector unix:uid:0 -output json
entry create -spiffeID spiffe://example.org/spire/a -parentID spiffe://example.org/p -selector unix:uid:0
entry create -spiffeID spiffe://example.org -parentID spiffe://example.org/p -selector unix:uid:0
entry create -spiffeID spiffe://example.org/n -node -selector unix:uid:0 -entryID e2 -output json
entry create {A} -selector unix:uid:9 -federatesWith spiffe://nowhere.org
entry create {A} -selector unix:uid:9 -dns *.*.x
entry create {A} -selector unix:uid:9 -entryID e/9
entry create {A} -selector unix:uid:9 -selector unix:gid:1 -entryID e3 -entryExpiry 2000000000 -storeSVID
entry create {A} -selector unix:uid:8 -selector k8s:ns:x -storeSVID
entry create -data {{data}}
entry show
entry show -output json
entry show -entryID e2
entry show -entryID nope
entry show -entryID e2 -spiffeID spiffe://example.org/a
entry show -hint h -output json
entry count
entry count -output json
entry count -downstream
entry count -downstream=false
entry count -selector unix:uid:0 -matchSelectorsOn exact
entry count -selector unix:uid:9 -matchSelectorsOn superset
entry count -selector unix:uid:9 -matchSelectorsOn subset
entry count -selector unix:uid:9 -matchSelectorsOn any
entry count -spiffeID spiffe://example.org/spire/x
entry count -parentID spiffe://other.org/x
entry update -entryID nope {A} -selector unix:uid:1
entry update -entryID e2 {A} -selector unix:uid:1 -disableX509SVIDPrefetch -dns z.y -dns a.b
entry update -entryID e2 {A} -selector unix:uid:1 -jwtSVIDIncludeJTI -output json
entry update {A} -selector unix:uid:1
entry delete
entry delete -entryID nope
entry delete -entryID nope -output json
entry delete -file {{ids}}
entry delete -entryID e2
entry count
token generate -ttl 0
token generate -spiffeID spiffe://example.org/spire/x
token generate -spiffeID spiffe://example.org/node -output json
agent list
agent list -output json
agent count -banned true
agent show
agent show -spiffeID spiffe://example.org/x
agent show -spiffeID spiffe://example.org/spire/agent/x
agent ban -spiffeID spiffe://example.org/spire/agent/x
agent evict -spiffeID spiffe://example.org/spire/agent/x
bundle show -format nope
jwt mint
jwt mint -spiffeID spiffe://example.org/w
jwt mint -audience a
jwt mint -spiffeID spiffe://other.org/w -audience a
jwt mint -spiffeID spiffe://example.org/spire/w -audience a
jwt mint -spiffeID spiffe://example.org/w -audience a -audience b
jwt mint -spiffeID spiffe://example.org/w -audience a -output json
jwt mint -spiffeID spiffe://example.org/w -audience a -ttl -5s
jwt mint -spiffeID spiffe://example.org/w -audience a -write {{folder}}/token
jwt mint -spiffeID spiffe://example.org/w -audience a -write {{folder}}/nowhere/token
x509 mint
x509 mint -spiffeID spiffe://other.org/w
x509 mint -spiffeID spiffe://example.org/w
x509 mint -spiffeID spiffe://example.org/w -dns a.b -ttl 30s
x509 mint -spiffeID spiffe://example.org/w -output json
x509 mint -spiffeID spiffe://example.org/w -write {{folder}}
x509 mint -spiffeID spiffe://example.org/w -write {{folder}}/nowhere
wit mint -spiffeID spiffe://example.org/w
wit mint -spiffeID spiffe://example.org/w -keyType rsa-2048
localauthority jwt show
localauthority jwt show -output json
localauthority jwt activate
localauthority jwt activate -authorityID nope
localauthority jwt taint -authorityID nope
localauthority jwt revoke
localauthority jwt revoke -authorityID nope
localauthority jwt prepare
localauthority jwt prepare -output json
localauthority jwt show
localauthority x509 show
localauthority x509 show -output json
localauthority x509 activate -authorityID nope
localauthority x509 taint
localauthority x509 taint -authorityID nope
localauthority x509 revoke -authorityID nope
localauthority x509 prepare
localauthority x509 prepare -output json
localauthority x509 show
upstreamauthority taint
upstreamauthority taint -subjectKeyID x
upstreamauthority revoke -subjectKeyID x -output json
entry
entry nope
nope
"""

DATA = {
    "entries": [
        {
            "entry_id": "f1",
            "spiffe_id": "spiffe://example.org/f1",
            "parent_id": "spiffe://example.org/p",
            "selectors": [{"type": "unix", "value": "uid:3"}],
            "entryExpiry": 1999999999,
            "x509_svid_ttl": 7,
        },
        {"spiffe_id": "spiffe://example.org/f2", "parent_id": "spiffe://example.org/p", "selectors": []},
        {
            "spiffe_id": "spiffe://example.org/f3",
            "parent_id": "spiffe://example.org/p",
            "selectors": [{"type": "unix", "value": "uid:3"}],
            "x509_svid_ttl": -1,
        },
    ]
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(program: Sequence[str]) -> Iterator[Path]:
    """A fresh server; gives its folder."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "data").mkdir(mode=0o700)
    (folder / "server.conf").write_text(CONFIG.format(folder=folder, port=_free_port()))
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*program, "run", "-config", str(folder / "server.conf")], stdout=log, stderr=log, env=environ
        )
    try:
        deadline = time.monotonic() + 60
        while run([UPSTREAM], folder, ["healthcheck"])[0] != 0:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield folder
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def run(program: Sequence[str], folder: Path, arguments: Sequence[str]) -> tuple[int, str, str]:
    """Run one command: exit code, output, and the error line, with what differs from run to run taken out."""
    has_socket = arguments[0] != "nope" and len(arguments) > (1 if arguments[0] != "healthcheck" else 0)
    where = ["-socketPath", f"{folder}/private/api.sock"] if has_socket else []
    words = {"healthcheck": 1, "nope": 1, "localauthority": 3}.get(arguments[0], 2)
    result = subprocess.run(
        [*program, *arguments[:words], *where, *arguments[words:]],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SPIRE_SERVER_FFLAGS": "wit-svid"},
        timeout=60,
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith(("Error: ", "Failed to "))]
    told, refused = (text.replace(str(folder), "FOLDER") for text in (result.stdout, "\n".join(errors)))
    return result.returncode, _plain(told), _plain(refused)


def _plain(text: str) -> str:
    text = re.sub(r'"(created_at|expires_at|issued_at)":"[1-9][0-9]{9}"', r'"\1":"T"', text)
    text = re.sub(r"Expires at: 20[0-9-]+ [0-9:]+", "Expires at: T", text)
    text = re.sub(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "JWT", text)
    text = re.sub(r'(Authority ID: |"authority_id":")(?:[0-9a-f]{40}|[A-Za-z0-9]{32})\b', r"\1ID", text)
    text = re.sub(r"-----BEGIN (.*)-----\n[A-Za-z0-9+/=\n]+-----END", r"-----BEGIN \1-----\nPEM\n-----END", text)
    text = re.sub(r'"MI[A-Za-z0-9+/=]+"', '"DER"', text)
    text = re.sub(r'"value":"[0-9a-f-]{36}"', '"value":"TOKEN"', text)
    text = re.sub(r"/join_token/[0-9a-f-]{36}", "/join_token/TOKEN", text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text).rstrip("\n")


def transcript(cli: Sequence[str], folder: Path) -> dict[str, tuple[int, str, str]]:
    (folder / "data.json").write_text(json.dumps(DATA))
    (folder / "ids.json").write_text(json.dumps({"ids": ["e1", "nope"]}))
    lines = [line for line in COMMANDS.splitlines() if line]
    return {
        f"{number}: {line}": run(
            cli, folder, line.format(data=folder / "data.json", ids=folder / "ids.json", folder=folder).split()
        )
        for number, line in enumerate(lines)
    }


@pytest.fixture(scope="module")
def control() -> dict[str, tuple[int, str, str]]:
    """What upstream's program says on upstream's server."""
    with running([UPSTREAM]) as folder:
        return transcript([UPSTREAM], folder)


@pytest.mark.parametrize(
    ("cli", "server"),
    [("upstream", "ours"), ("ours", "upstream"), ("ours", "ours")],
    ids=["upstream's commands, our server", "our commands, upstream's server", "our commands, our server"],
)
def test_commands_say_the_same(control: dict[str, tuple[int, str, str]], cli: str, server: str) -> None:
    programs: dict[str, Sequence[str]] = {"ours": OURS, "upstream": [UPSTREAM]}
    with running(programs[server]) as folder:
        found = transcript(programs[cli], folder)
    different = {
        line: {"wanted": control[line], "found": found[line]} for line in control if control[line] != found[line]
    }
    assert not different, json.dumps(different, indent=1)
