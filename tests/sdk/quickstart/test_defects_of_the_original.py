"""Each defect that the original of this name (authsec-sdk 4.7.3) had is gone."""

import asyncio
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk import QuickStartSVID
from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import CallerError, NoIdentityError, NotReadyError, UnavailableError
from authsec_sdk.testing import Credential, FakeWorkloadAPI, TestCA
from authsec_sdk.tls import PeerVerificationError

pytestmark = pytest.mark.anyio
Handshake = Callable[[ssl.SSLContext, ssl.SSLContext], tuple[ssl.SSLObject, ssl.SSLObject]]


async def rotated(svid: QuickStartSVID, change: Callable[[], None]) -> None:
    """Wait until a change of what the agent serves has arrived, in contexts made before as well."""
    arrived = threading.Event()
    remove = svid.source._add_listener(lambda context: arrived.set())  # listeners are told in order, this one last
    change()
    with anyio.fail_after(30):
        while not arrived.is_set():
            await anyio.sleep(0.005)
    remove()


def plain_server(tmp_path: Path, credential: Credential) -> ssl.SSLContext:
    """A server as the web has them, which asks for no certificate."""
    (tmp_path / "server.pem").write_bytes(credential.chain_pem() + credential.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


async def test_1_speaks_to_a_conformant_workload_api(fake_workload_api: FakeWorkloadAPI) -> None:
    """It had another path, another message layout, PEM for DER, and no security header."""
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    assert str(svid.spiffe_id) == "spiffe://example.org/workload"
    assert fake_workload_api.metadata["workload.spiffe.io"] == "true"
    await QuickStartSVID.shutdown()


async def test_2_trusts_no_root_of_the_system(
    fake_workload_api: FakeWorkloadAPI, handshake: Handshake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loaded the system's roots and switched host names off: any certificate of the web was accepted."""
    web = TestCA("web.test")
    (tmp_path / "roots.pem").write_bytes(web.certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    client = svid.create_ssl_context_for_client()
    for credential in (web.credential(uris=(), dns_names=["evil.example"]), web.credential("spiffe://example.org/db")):
        with pytest.raises(PeerVerificationError):
            handshake(client, plain_server(tmp_path, credential))
    client.load_default_certs()
    with pytest.raises(PeerVerificationError):
        handshake(client, plain_server(tmp_path, web.credential("spiffe://example.org/db")))
    await QuickStartSVID.shutdown()


async def test_3_authorizes(fake_workload_api: FakeWorkloadAPI, handshake: Handshake) -> None:
    """It accepted every workload of every domain it had a root of. More in test_quickstart.py."""
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    wanted = svid.create_ssl_context_for_client(authorizer=authorize_id("spiffe://example.org/payments"))
    with pytest.raises(PeerVerificationError, match="not authorized"):
        handshake(wanted, svid.create_ssl_context_for_server())
    await QuickStartSVID.shutdown()


async def test_4_contexts_follow_rotations_and_drop_removed_roots(
    fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA, handshake: Handshake, tmp_path: Path
) -> None:
    """It read its files once, whatever its docstring said."""
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    client, server = svid.create_ssl_context_for_client(), svid.create_ssl_context_for_server()
    old = plain_server(tmp_path, spiffe_ca.credential("/old"))
    seen = set()
    for _ in range(3):
        seen.add(handshake(client, server)[0].getpeercert(binary_form=True))
        handshake(client, old)
        await rotated(svid, lambda: fake_workload_api.rotate(root=True))
    assert len(seen) == 3
    handshake(client, old)
    await rotated(svid, fake_workload_api.remove_root)
    handshake(client, server)
    with pytest.raises(PeerVerificationError):
        handshake(client, old)
    await QuickStartSVID.shutdown()


AUDITED = """
import asyncio, os, sys
written = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path, mode, flags = arguments
        if (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or set(mode or "") & set("wax+"):
            written.append(os.fsdecode(path))
    elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "shutil.copyfile"):
        written.append(f"{event} {arguments}")
from authsec_sdk import QuickStartSVID
async def main():
    svid = await QuickStartSVID.initialize(sys.argv[1])
    first = svid.certificate
    svid.create_ssl_context_for_client().wrap_bio(*bios())
    print("ready", flush=True)
    while svid.certificate == first:
        await asyncio.sleep(0.01)
    svid.create_ssl_context_for_server().wrap_bio(*bios(), server_side=True)
    await QuickStartSVID.shutdown()
def bios():
    import ssl
    return ssl.MemoryBIO(), ssl.MemoryBIO()
sys.addaudithook(audit)
asyncio.run(main())
written = [path for path in written if not path.endswith((".pyc", "__pycache__")) and ".pyc." not in path]
assert not written, written
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a key goes through an encrypted temporary file")
def test_5_writes_nothing_to_disk_unasked(fake_workload_api: FakeWorkloadAPI, tmp_path: Path) -> None:
    """It kept the key in /tmp/spiffe-certs, for a moment readable by everybody, and left it there."""
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", AUDITED, fake_workload_api.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(tmp_path), "PATH": ""},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        fake_workload_api.rotate()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []


async def test_5_never_shows_its_key(fake_workload_api: FakeWorkloadAPI) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    shown = repr(svid) + repr(vars(svid)) + repr(svid.x509_context) + repr(svid.source) + str(svid.status)
    assert "PRIVATE" not in shown
    assert svid.x509_svid.key_der().hex() not in shown
    for name in ("private_key", "cert_file_path", "key_file_path", "ca_file_path", "cert_dir"):
        assert name not in dir(svid), "whoever lists an object's attributes asks for no key"
    with pytest.raises(AttributeError, match="is gone: "):
        svid.refresh()
    with pytest.raises(AttributeError, match="has no attribute 'spifeid'"):
        svid.spifeid  # noqa: B018
    await QuickStartSVID.shutdown()


async def test_6_says_nothing_about_itself(fake_workload_api: FakeWorkloadAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sent process and pod names of its own choosing, over plain TCP by default, for the agent to believe."""
    for name in ("POD_NAME", "POD_NAMESPACE", "SERVICE_ACCOUNT", "DOCKER_CONTAINER_ID"):
        monkeypatch.setenv(name, "admin")
    await QuickStartSVID.initialize(fake_workload_api.address)
    assert set(fake_workload_api.metadata) <= {"workload.spiffe.io", "user-agent"}
    await QuickStartSVID.shutdown()


async def test_7_a_stream_that_ends_is_opened_again(fake_workload_api: FakeWorkloadAPI) -> None:
    """Its stream died without a word, and every 30 minutes it looked by a second one."""
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    for end in (fake_workload_api.end_streams, fake_workload_api.hang_up):
        end()
        await rotated(svid, fake_workload_api.rotate)
    assert fake_workload_api.streams == 1
    await QuickStartSVID.shutdown()


async def test_8_a_failed_initialize_leaves_nothing_broken(fake_workload_api: FakeWorkloadAPI) -> None:
    """The second call returned the broken object of the first, whatever socket it named."""
    with pytest.raises(NotReadyError, match="no socket at this path"):
        await QuickStartSVID.initialize("/tmp/authsec-no-such.sock", timeout=0.3)
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    assert str(svid.spiffe_id) == "spiffe://example.org/workload"
    with pytest.raises(CallerError, match=r"socket_path=unix:///tmp/authsec-no-such\.sock"):
        await QuickStartSVID.initialize("/tmp/authsec-no-such.sock")
    with pytest.raises(CallerError, match="hint=internal"):
        await QuickStartSVID.initialize(hint="internal")
    assert await QuickStartSVID.initialize(fake_workload_api.address) is svid
    await QuickStartSVID.shutdown()


async def test_9_all_svids_and_federated_bundles_are_there(
    fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA
) -> None:
    """It looked at the first SVID alone, dropped federated bundles, and checked neither key nor expiry."""
    fake_workload_api.issue(spiffe_ca, "/second")
    fake_workload_api.federate(TestCA("foreign.test"))
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    assert len(svid.x509_context.svids) == 2
    assert {domain.name for domain in svid.x509_context.bundles} == {"example.org", "foreign.test"}
    await QuickStartSVID.shutdown()


async def test_10_errors_say_what_is_wrong(fake_workload_api: FakeWorkloadAPI) -> None:
    """Everything was False or None and a line in the log."""
    fake_workload_api.deny()
    with pytest.raises(NotReadyError, match="no identity issued") as caught:
        await QuickStartSVID.initialize(fake_workload_api.address, timeout=2)
    assert isinstance(caught.value.__cause__, NoIdentityError)
    fake_workload_api.stop()
    with pytest.raises(NotReadyError) as caught:
        await QuickStartSVID.initialize(fake_workload_api.address, timeout=2)
    assert isinstance(caught.value.__cause__, UnavailableError)


def test_11_no_event_loop_owns_it(fake_workload_api: FakeWorkloadAPI) -> None:
    """It had a lock of the class that belonged to the first event loop, and knew asyncio alone."""
    import trio

    async def initialize() -> QuickStartSVID:
        return await QuickStartSVID.initialize(fake_workload_api.address)

    first = asyncio.run(initialize())
    assert asyncio.run(initialize()) is first
    assert trio.run(initialize) is first
    known = first.certificate
    fake_workload_api.rotate()  # no event loop runs now
    deadline = time.monotonic() + 30
    while first.certificate == known:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    trio.run(QuickStartSVID.shutdown)


async def test_an_svid_that_expired_is_never_taken_up(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    from datetime import UTC, datetime

    past = datetime.now(UTC) - timedelta(hours=1)
    fake_workload_api.set(
        spiffe_ca.svid(not_before=past - timedelta(hours=1), not_after=past), bundles=[spiffe_ca.bundle()]
    )
    with pytest.raises(NotReadyError, match="expired at"):
        await QuickStartSVID.initialize(fake_workload_api.address, timeout=2)
