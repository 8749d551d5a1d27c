"""Code for authsec-sdk 4.x runs as it is: its names, its attributes, and what its README told people to write."""

import asyncio
import importlib
import json
import logging
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import authsec_sdk
from authsec_sdk import QuickStartSVID
from authsec_sdk.errors import CallerError, ConfigurationError, NotReadyError, SourceClosedError, SpiffeError
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

pytestmark = pytest.mark.anyio
Handshake = Callable[[ssl.SSLContext, ssl.SSLContext], tuple[ssl.SSLObject, ssl.SSLObject]]
ROOT = Path(authsec_sdk.__file__).parents[1]
FILES = ("cert_file_path", "key_file_path", "ca_file_path")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("authsec_sdk.spiffe", ("QuickStartSVID", "WorkloadAPIClient", "WorkloadSVID")),
        ("authsec_sdk.spiffe.quick_start_svid", ("QuickStartSVID",)),
        ("authsec_sdk.spiffe.workload_api_client", ("WorkloadAPIClient",)),
        ("authsec_sdk.spiffe.spire", ("QuickStartSVID", "WorkloadAPIClient", "WorkloadSVID")),
    ],
)
def test_names_are_where_they_were(module: str, names: tuple[str, ...]) -> None:
    found = importlib.import_module(module)
    for name in names:
        assert getattr(found, name).__name__ == name
    assert importlib.import_module("authsec_sdk.spiffe").QuickStartSVID is QuickStartSVID
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        found.Nothing  # noqa: B018


def test_the_pure_part_stays_pure() -> None:
    code = (
        "import sys, authsec_sdk.spiffe, authsec_sdk.spiffe.spire\n"
        "heavy = {'asyncio', 'ssl', 'grpclib', 'authsec_sdk.quickstart', 'authsec_sdk.compat'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- attributes ------------------------------------------------------------------------------------------------------


async def test_attributes_are_text_as_they_were(fake_workload_api: FakeWorkloadAPI) -> None:
    svid = await QuickStartSVID.initialize(socket_path=fake_workload_api.address)
    assert json.dumps({"identity": svid.spiffe_id}) == '{"identity": "spiffe://example.org/workload"}'
    key = load_pem_private_key(svid.private_key.encode(), None)
    assert key.public_key() == x509.load_pem_x509_certificate(svid.certificate.encode()).public_key()
    assert svid.get_certificate_dict() == {"cert": svid.certificate, "key": svid.private_key}
    await QuickStartSVID.shutdown()
    for ask in (lambda: svid.private_key, svid.get_certificate_dict, lambda: svid.key_file_path):
        with pytest.raises(SourceClosedError):
            ask()


async def test_reading_a_path_asks_for_files_that_are_private_follow_and_go(
    fake_workload_api: FakeWorkloadAPI, caplog: pytest.LogCaptureFixture
) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    assert svid._files is None, "nobody has asked"
    certificate, key, authorities = (getattr(svid, name) for name in FILES)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (certificate, key, authorities)] == [0o600] * 3
    assert key.read_text() == svid.private_key
    assert authorities.read_text() == svid.trust_bundle
    told = [record for record in caplog.records if "the private key is in a file" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING], "said once"
    before = certificate.read_text()
    fake_workload_api.rotate(root=True)
    with anyio.fail_after(30):
        while certificate.read_text() == before or key.read_text() != svid.private_key:
            await anyio.sleep(0.005)
    assert authorities.read_text().count("BEGIN CERTIFICATE") == 2
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    assert [getattr(svid, name) for name in FILES] == [certificate, key, authorities], "paths stay"
    await QuickStartSVID.shutdown()
    assert not any(path.exists() for path in (certificate, key, authorities))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is in memory alone")
def test_files_that_are_asked_for_by_reading_are_on_no_disk(fake_workload_api: FakeWorkloadAPI, tmp_path: Path) -> None:
    async def ask() -> Path:
        svid = await QuickStartSVID.initialize(fake_workload_api.address)
        path: Path = svid.key_file_path
        assert "memfd:" in str(path.readlink())
        return path

    try:
        path = asyncio.run(ask())
        # Others of this user can open it, such as the workers of a server.
        read = [sys.executable, "-c", "import sys; print(len(open(sys.argv[1]).read()))", str(path)]
        done = subprocess.run(read, capture_output=True, text=True, check=True)
        assert int(done.stdout) > 100
    finally:
        asyncio.run(QuickStartSVID.shutdown())


async def test_a_folder_can_be_named(fake_workload_api: FakeWorkloadAPI, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "certs"
    svid = await QuickStartSVID.initialize(fake_workload_api.address, cert_dir=str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "svid.crt", "svid.key"]
    assert svid.cert_file_path == folder / "svid.crt"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(CallerError, match="cert_dir="):
        await QuickStartSVID.initialize(cert_dir=tmp_path)
    await QuickStartSVID.shutdown()
    assert not folder.exists()


async def test_a_folder_that_was_there_stays_with_what_is_others(
    fake_workload_api: FakeWorkloadAPI, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "mine.txt").write_text("x")
    (tmp_path / "svid.key").symlink_to(tmp_path / "elsewhere")
    svid = await QuickStartSVID.initialize(fake_workload_api.address, cert_dir=tmp_path)
    assert not svid.key_file_path.is_symlink(), "a link is replaced, not followed"
    await QuickStartSVID.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("trouble", ["open to others", "a link", "a file", "nowhere"])
async def test_a_folder_that_is_not_safe_is_refused_and_nothing_stays_behind(
    fake_workload_api: FakeWorkloadAPI, tmp_path: Path, trouble: str
) -> None:
    folder = tmp_path / "certs"
    if trouble == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    elif trouble == "a link":
        (tmp_path / "real").mkdir(0o700)
        folder.symlink_to(tmp_path / "real")
    else:
        folder.write_text("x")
        folder = folder / "below" if trouble == "nowhere" else folder
    with pytest.raises(ConfigurationError):
        await QuickStartSVID.initialize(fake_workload_api.address, cert_dir=folder)
    with pytest.raises(CallerError):
        await QuickStartSVID.get()
    assert not list(tmp_path.rglob("svid.key"))
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    assert svid.spiffe_id == "spiffe://example.org/workload"
    await QuickStartSVID.shutdown()


async def test_files_that_cannot_be_written_later_are_logged_and_stay(
    fake_workload_api: FakeWorkloadAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "certs"
    svid = await QuickStartSVID.initialize(fake_workload_api.address, cert_dir=folder)
    before = svid.cert_file_path.read_text()
    folder.rename(tmp_path / "moved")
    fake_workload_api.rotate()
    with anyio.fail_after(30):
        while not any("out of date" in record.getMessage() for record in caplog.records):
            await anyio.sleep(0.005)
    assert (tmp_path / "moved" / "svid.crt").read_text() == before
    (tmp_path / "moved").rename(folder)
    fake_workload_api.rotate()
    with anyio.fail_after(30):
        while svid.cert_file_path.read_text() == before:
            await anyio.sleep(0.005)
    await QuickStartSVID.shutdown()
    assert not folder.exists()


ENDS = """
import asyncio, os, sys
from authsec_sdk import QuickStartSVID
svid = asyncio.run(QuickStartSVID.initialize(sys.argv[1], cert_dir=sys.argv[2]))
print(svid.key_file_path, flush=True)
if not (pid := os.fork()):
    sys.exit()  # with all its exit handlers
os.waitpid(pid, 0)
print(os.path.exists(svid.key_file_path), flush=True)
"""


def test_a_program_that_just_ends_leaves_no_file_and_its_children_remove_none(
    fake_workload_api: FakeWorkloadAPI, tmp_path: Path
) -> None:
    folder = tmp_path / "certs"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ENDS, fake_workload_api.address, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(folder / "svid.key"), "True"]
    assert list(tmp_path.iterdir()) == []


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_tokens_are_fetched_and_validated(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    token = await svid.fetch_jwt_svid(audience=["my-api"])
    assert isinstance(token, str)
    result = await svid.validate_jwt_svid(token, audience="my-api")
    assert result is not None
    assert result["spiffe_id"] == "spiffe://example.org/workload"
    assert "my-resource:write" not in result["claims"].get("permissions", [])
    rich = spiffe_ca.tokens.jwt_token("/caller", ["my-api"], claims={"permissions": ["a:read", {"b": 1}]})
    claims = (await svid.validate_jwt_svid(rich, "my-api") or {})["claims"]
    assert json.loads(json.dumps(claims))["permissions"] == ["a:read", {"b": 1}]
    again = await svid.fetch_jwt_svid(["my-api"], "spiffe://example.org/workload")
    assert again.count(".") == 2
    await QuickStartSVID.shutdown()
    with pytest.raises(SourceClosedError):
        await svid.fetch_jwt_svid(["my-api"])


async def test_what_is_invalid_is_none_and_what_nobody_knows_is_raised(
    fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    good = spiffe_ca.tokens.jwt_token("/caller", ["my-api"])
    stranger = TestCA("stranger.test").tokens.jwt_token("/caller", ["my-api"])
    forged = TestCA("example.org").tokens.jwt_token("/caller", ["my-api"])
    for token, audience in (
        (good, "other"),
        ("", "my-api"),
        ("a.b.c", "my-api"),
        (stranger, "my-api"),
        (forged, "my-api"),
    ):
        assert await svid.validate_jwt_svid(token, audience) is None
        assert not token or token not in caplog.text
    assert caplog.text.count("a JWT-SVID is refused") == 5
    with pytest.raises(SpiffeError):
        await svid.fetch_jwt_svid(["my-api"], spiffe_id="spiffe://example.org/somebody-else")
    await QuickStartSVID.shutdown()
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    fake_workload_api.stop()
    with pytest.raises(NotReadyError):
        await svid.validate_jwt_svid(good, "my-api", timeout=0.2)
    await QuickStartSVID.shutdown()


# --- the README's service --------------------------------------------------------------------------------------------

# The calls, and the order of them, that the README told people to make; the words and the service are ours.
SERVICE = """
import asyncio
import os
import ssl
import sys

import uvicorn
from fastapi import FastAPI, HTTPException, Request

from {package} import QuickStartSVID

svid = None


async def begin():
    global svid
    svid = await QuickStartSVID.initialize(
        socket_path=os.getenv("SPIFFE_ENDPOINT_SOCKET", "/run/spire/sockets/agent.sock")
    )


app = FastAPI(on_startup=[begin]) if {twice} else FastAPI()


@app.get("/health")
async def health():
    return {{"status": "ok", "spiffe_id": svid.spiffe_id}}


@app.post("/act")
async def act(request: Request):
    header = request.headers.get("authorization", "")
    if not header.startswith("Bearer "):
        raise HTTPException(401, "a token, please")
    result = await svid.validate_jwt_svid(header.split(" ")[1], audience="my-api")
    if not result:
        raise HTTPException(403, "no")
    if "my-resource:write" not in result["claims"].get("permissions", []):
        raise HTTPException(403, "not you")
    return {{"caller": result["spiffe_id"]}}


if __name__ == "__main__":
    asyncio.run(begin())
    svid.create_ssl_context_for_server()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        ssl_keyfile=str(svid.key_file_path),
        ssl_certfile=str(svid.cert_file_path),
        ssl_ca_certs=str(svid.ca_file_path),
        ssl_cert_reqs={required},
    )
"""


@pytest.fixture
def agent_of_the_service(spiffe_ca: TestCA) -> Iterator[FakeWorkloadAPI]:
    with FakeWorkloadAPI() as agent:
        agent.issue(spiffe_ca, "/service")
        yield agent


@pytest.mark.parametrize(
    ("package", "required", "twice"),
    [("authsec_sdk", "2", False), ("authsec_sdk.spiffe", "ssl.CERT_REQUIRED", True)],
)
async def test_the_service_of_the_readme(
    fake_workload_api: FakeWorkloadAPI,
    agent_of_the_service: FakeWorkloadAPI,
    spiffe_ca: TestCA,
    tmp_path: Path,
    package: str,
    required: str,
    twice: bool,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code = SERVICE.format(package=package, required=required, twice=twice)
    # As the README's deployment sets it: a path, without a scheme.
    environment = {"SPIFFE_ENDPOINT_SOCKET": agent_of_the_service.address.removeprefix("unix://")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(port)],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    drained: list[str] = []
    reader = threading.Thread(target=lambda: drained.extend(process.stdout or ()))
    reader.start()
    try:
        svid = await QuickStartSVID.initialize(socket_path=fake_workload_api.address)
        await _listening(port, process, drained)
        url = f"https://127.0.0.1:{port}"
        async with httpx.AsyncClient(verify=svid.create_ssl_context_for_client()) as client:
            answer = await client.get(f"{url}/health")
            assert answer.json() == {"status": "ok", "spiffe_id": "spiffe://example.org/service"}
            token = await svid.fetch_jwt_svid(audience=["my-api"])
            assert (await client.post(f"{url}/act", headers={"Authorization": f"Bearer {token}"})).status_code == 403
            assert (await client.post(f"{url}/act", headers={"Authorization": "Bearer x"})).status_code == 403
            assert (await client.post(f"{url}/act")).status_code == 401
            may = spiffe_ca.tokens.jwt_token("/caller", ["my-api"], claims={"permissions": ["my-resource:write"]})
            answer = await client.post(f"{url}/act", headers={"Authorization": f"Bearer {may}"})
            assert answer.json() == {"caller": "spiffe://example.org/caller"}
        anonymous = ssl.create_default_context()
        anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(verify=anonymous) as client:
                await client.get(f"{url}/health")
        await QuickStartSVID.shutdown()
    finally:
        process.terminate()
        await anyio.to_thread.run_sync(process.wait)
        reader.join(30)
        process.stdout.close()
    if sys.platform == "linux":
        assert list(tmp_path.iterdir()) == [], "there was no file on a disk, so the signal that ended it left none"


async def _listening(port: int, process: "subprocess.Popen[str]", said: list[str]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "".join(said)
            assert time.monotonic() < deadline, "not listening in time"
            await anyio.sleep(0.05)
