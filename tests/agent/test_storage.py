"""State on disk: whole after any crash, tamper-evident, for us alone, and nothing of it where it need not be."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import traceback

import pytest

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.testing import TestCA
from icp_agent.keys import generate_key
from icp_agent.storage import AgentStorage, StorageError, StoredSVID

TRUST_DOMAIN = TrustDomain.parse("example.org")
CA = TestCA("example.org")


def bundle() -> TrustBundle:
    return TrustBundle(TRUST_DOMAIN, CA.bundle().authorities, sequence_number=3)


def svid() -> StoredSVID:
    return StoredSVID(CA.svid("/spire/agent/join_token/x"), reattestable=False)


@pytest.fixture
def storage(tmp_path) -> AgentStorage:
    return AgentStorage(tmp_path / "data", tmp_path / "data", TRUST_DOMAIN)


def test_an_empty_disk_has_nothing(storage):
    assert storage.load_bundle() is None
    assert storage.load_svid() is None
    assert storage.load_pending_key() is None


def test_what_was_saved_is_loaded(storage):
    saved, key = svid(), generate_key()
    storage.save_svid(saved)
    storage.save_bundle(bundle())
    storage.save_pending_key(key)
    loaded = storage.load_svid()
    assert loaded == saved
    assert loaded.svid.key_der() == saved.svid.key_der()
    assert storage.load_bundle() == bundle()
    assert storage.load_pending_key().private_numbers() == key.private_numbers()


def test_forgetting(storage):
    storage.save_svid(svid())
    storage.save_pending_key(generate_key())
    storage.forget_svid()
    storage.forget_pending_key()
    storage.forget_svid()
    assert storage.load_svid() is None
    assert storage.load_pending_key() is None


def test_keys_in_memory_are_never_on_disk(tmp_path):
    storage = AgentStorage(tmp_path, None, TRUST_DOMAIN)
    storage.save_svid(svid())
    storage.save_pending_key(generate_key())
    storage.save_bundle(bundle())
    storage.forget_svid()
    assert storage.load_svid() is None
    assert storage.load_pending_key() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent-bundle.sealed", "agent-seal.key"]


def test_keys_can_live_in_a_folder_of_their_own(tmp_path):
    storage = AgentStorage(tmp_path / "data", tmp_path / "keys", TRUST_DOMAIN)
    storage.save_svid(svid())
    storage.save_bundle(bundle())
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"agent-svid.sealed", "agent-seal.key"}
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"agent-bundle.sealed", "agent-seal.key"}


def test_files_are_for_us_alone(tmp_path, storage):
    storage.save_svid(svid())
    storage.save_bundle(bundle())
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()} == {0o600}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_folder_others_can_write_is_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be written by others"):
        AgentStorage(folder, folder, TRUST_DOMAIN)


@pytest.mark.parametrize("name", ["agent-bundle", "agent-svid", "agent-pending-key"])
@pytest.mark.parametrize("change", ["flip", "cut", "empty", "swap"])
def test_changes_by_another_hand_are_seen(tmp_path, storage, name, change):
    storage.save_svid(svid())
    storage.save_bundle(bundle())
    storage.save_pending_key(generate_key())
    path = tmp_path / "data" / f"{name}.sealed"
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[-1] ^= 1
    elif change == "cut":
        del data[-1]
    elif change == "empty":
        data.clear()
    else:
        other = "agent-svid" if name != "agent-svid" else "agent-bundle"
        data = bytearray((tmp_path / "data" / f"{other}.sealed").read_bytes())
    path.write_bytes(data)
    load = {
        "agent-bundle": storage.load_bundle,
        "agent-svid": storage.load_svid,
        "agent-pending-key": storage.load_pending_key,
    }[name]
    with pytest.raises(StorageError, match=r"agent-.*\.sealed"):
        load()


def test_state_of_another_trust_domain_is_not_taken(tmp_path, storage):
    storage.save_bundle(bundle())
    other = AgentStorage(tmp_path / "data", tmp_path / "data", TrustDomain.parse("other.org"))
    with pytest.raises(StorageError):
        other.load_bundle()


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b'{"chain": ["!"], "key": ""}', b'{"chain": [], "key": "AAAA"}', b"\xff"]
)
def test_sealed_nonsense_is_not_taken(storage, content):
    storage._svid.store(content)
    storage._pending.store(content)
    storage._bundle.store(content)
    for load in (storage.load_svid, storage.load_pending_key, storage.load_bundle):
        with pytest.raises(StorageError):
            load()


def test_no_error_shows_the_key(storage):
    """Tracebacks show locals to crash reporters: none of them, nor any exception behind, may hold the key's bytes."""
    saved = svid()
    key = saved.svid.key_der()
    document = {"chain": ["AAAA"], "key": base64.b64encode(key).decode(), "reattestable": False}
    storage._svid.store(json.dumps(document).encode())
    with pytest.raises(StorageError) as caught:
        storage.load_svid()
    error: BaseException | None = caught.value
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        told.stack[:] = [frame for frame in told.stack if frame.filename != __file__]
        shown = "".join(told.format())
        assert base64.b64encode(key).decode()[:40] not in shown
        assert repr(key)[2:40] not in shown
        error = error.__cause__ or error.__context__


WRITER = """
import sys
from pathlib import Path
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.testing import TestCA
from icp_agent.storage import AgentStorage, StoredSVID
ca = TestCA("example.org")
storage = AgentStorage(Path(sys.argv[1]), Path(sys.argv[1]), TrustDomain.parse("example.org"))
states = [(StoredSVID(ca.svid("/spire/agent/x/1"), False), ca.bundle())]
for _ in range(3):
    ca.rotate()
    states.append((StoredSVID(ca.svid("/spire/agent/x/1"), False), ca.bundle()))
while True:
    for svid, bundle in states:
        storage.save_svid(svid)
        storage.save_bundle(TrustBundle(bundle.trust_domain, bundle.authorities))
    print("round", flush=True)
"""


def test_killed_in_the_middle_of_writing_the_state_is_whole(tmp_path):
    """`X509SVID` itself refuses a chain and a key that do not fit each other."""
    folder = tmp_path / "data"
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, env=environment()
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"round\n"
            time.sleep(0.05 + attempt * 0.013)
            process.send_signal(signal.SIGKILL)
        storage = AgentStorage(folder, folder, TRUST_DOMAIN)
        assert str(storage.load_svid().svid.id) == "spiffe://example.org/spire/agent/x/1"
        assert len(storage.load_bundle().x509_authorities) >= 1
        assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")], "leftovers are swept"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
