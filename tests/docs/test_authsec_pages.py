"""The pages about ``authsec``: the reference is the program's own, and every command line and file on them is taken."""

import argparse
import os
import re
import shlex
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from authsec_sdk.cli import build_parser
from authsec_sdk.cli.sidecar.helper_conf import read_helper_conf
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from tools import authsec_reference

ROOT = Path(__file__).resolve().parents[2]
FILES_PAGE = ROOT / "docs/how-to/files-for-other-programs.md"
MIGRATION = ROOT / "docs/migrate/spiffe-helper.md"
PATIENCE = 60.0
SSL_REQUEST = struct.pack("!II", 8, 80877103)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_reference_is_what_the_program_says() -> None:
    current = authsec_reference.PAGE.read_text()
    assert authsec_reference.page(current) == current, "run: python -m tools.authsec_reference"


LINES = [line for page in (FILES_PAGE, MIGRATION) for block in blocks(page, "sh") for line in block.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_command_lines_are_taken(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = shlex.split(line)
    assert words[0] == "authsec"
    options = build_parser().parse_args(words[1:])
    assert isinstance(options, argparse.Namespace)
    if "--" in words:
        assert options.command_line == words[words.index("--") + 1 :]


def test_the_configuration_of_the_migration_page_is_taken(tmp_path: Path) -> None:
    [conf] = blocks(MIGRATION, "hcl")
    path = tmp_path / "helper.conf"
    path.write_text(conf)
    settings = read_helper_conf(path, environ={}).settings
    assert settings.command[:2] == ("ghostunnel", "server")
    assert settings.modes.certificates == 0o444


def test_every_setting_of_spiffe_helper_is_on_the_migration_page() -> None:
    text = (ROOT / "authsec_sdk/cli/sidecar/helper_conf.py").read_text()
    asked = set(re.findall(r'conf\.\w+\(\s*"(\w+)"', text)) | set(re.findall(r'"(svid_\w+_name)"', text))
    assert len(asked) >= 20
    page = MIGRATION.read_text()
    assert [name for name in asked if f"`{name}`" not in page] == []


# --- a real consumer: PostgreSQL reads its files again, and ends no session ------------------------------------------


def binary(name: str) -> str:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pgf-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def as_server() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    import pwd

    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def until(condition: object, words: object = "") -> None:
    assert callable(condition)
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, words
        time.sleep(0.02)


def presented(port: int) -> int | None:
    """The serial number of the certificate that the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(SSL_REQUEST)
            if sock.recv(1) != b"S":
                return None
            with context.wrap_socket(sock) as tls:
                return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"").serial_number
    except OSError:
        return None


def test_postgresql_reads_the_files_of_each_rotation(folder: Path) -> None:
    import psycopg

    initdb, postgres, server = binary("initdb"), binary("postgres"), as_server()
    data, svids = folder / "data", folder / "svid"
    svids.mkdir()
    if server:
        os.chown(folder, int(str(server["user"])), int(str(server["group"])))
        os.chown(svids, 0, int(str(server["group"])))
    svids.chmod(0o2750)
    subprocess.run(
        [initdb, "-D", data, "-U", "admin", "-A", "trust", "-N", "--locale=C"],
        check=True,
        capture_output=True,
        cwd=folder,
        **server,  # type: ignore[call-overload]
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ca = TestCA("example.org")
    [line] = [line for line in LINES if "postmaster.pid" in line]
    line = line.replace("/var/lib/postgresql/data", str(data)).replace("/run/svid", str(svids))
    command = [sys.executable, "-m", "authsec_sdk.cli", *shlex.split(line)[1:]]
    with FakeWorkloadAPI() as agent:
        agent.issue(ca, "/database")
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SPIFFE_ENDPOINT_SOCKET": agent.address}
        with (folder / "log").open("wb") as log, subprocess.Popen(command, env=env, stderr=log) as authsec:
            try:
                until(lambda: (svids / "svid.pem").exists(), "no files")
                files = {"cert": "svid.pem", "key": "svid_key.pem", "ca": "svid_bundle.pem"}
                ssl_options = [f"--ssl_{what}_file={svids / name}" for what, name in files.items()]
                start = [
                    postgres,
                    "-D",
                    data,
                    "-k",
                    folder,
                    "-h",
                    "127.0.0.1",
                    "-p",
                    str(port),
                    "--ssl=on",
                    *ssl_options,
                ]
                with subprocess.Popen(start, cwd=folder, stderr=log, **server) as database:  # type: ignore[call-overload]
                    try:
                        until(lambda: presented(port) is not None, (folder / "log").read_text)
                        before = presented(port)
                        with psycopg.connect(host="127.0.0.1", port=port, user="admin", dbname="postgres") as session:
                            agent.rotate()
                            until(lambda: presented(port) not in (None, before), (folder / "log").read_text)
                            leaf = x509.load_pem_x509_certificate((svids / "svid.pem").read_bytes())
                            assert presented(port) == leaf.serial_number
                            assert session.execute("SELECT 1").fetchone() == (1,)
                    finally:
                        database.terminate()
            finally:
                authsec.terminate()
        assert authsec.wait() == 0
