"""The plugin is loaded in every run of everybody who has this package: it must cost nothing and change nothing."""

import subprocess
import sys
from pathlib import Path

import authsec_sdk
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import X509Source

ROOT = Path(authsec_sdk.__file__).parents[1]

LOADED = """
import sys
import pytest
before = set(sys.modules)
import authsec_sdk.testing.pytest_plugin
new = set(sys.modules) - before
heavy = {name for name in new if name.partition(".")[0] not in ("authsec_sdk",)}
assert not heavy, heavy
assert len(new) <= 4, new
"""

USERS_TEST = """
import pytest
from authsec_sdk import X509Source
from authsec_sdk.testing import RUBBISH, HostileServer, hostile_credentials, plain_context

def test_sync(workload_api, spiffe_ca, monkeypatch):
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", workload_api.address)
    with X509Source() as source:
        assert source.x509_context.bundles[spiffe_ca.trust_domain] == spiffe_ca.bundle()

@pytest.mark.anyio
async def test_async(workload_api, rotate):
    async with X509Source(workload_api.address) as source:
        before = await source.ready(30)
        rotate(root=True)
        after = await source.ready(30, newer_than=before)
        assert before.svid != after.svid
        assert [len(bundle) for bundle in after.bundles.values()] == [2]

def test_the_other_name(fake_workload_api, workload_api):
    assert fake_workload_api is workload_api

def test_pair(mtls_pair, rotate):
    before = mtls_pair.handshake()
    rotate(root=True, remove_old_roots=True)
    after = mtls_pair.handshake()
    assert before.client.getpeercert(True) != after.client.getpeercert(True)
    assert after.server.peer_spiffe_id == mtls_pair.client_id

def test_hostile(mtls_pair, spiffe_ca):
    for credential in hostile_credentials(spiffe_ca).values():
        with pytest.raises(OSError):
            mtls_pair.handshake(client=plain_context(credential))

def test_rotation_of_nothing(rotate, spiffe_ca):
    rotate(root=True)
    assert len(spiffe_ca.bundle()) == 2
"""

TRIOS_TEST = """
import pytest
import trio
from authsec_sdk import X509Source

def test_trio(workload_api, rotate):
    async def main():
        async with X509Source(workload_api.address) as source:
            before = await source.ready(30)
            rotate()
            assert (await source.ready(30, newer_than=before)).svid != before.svid
    trio.run(main)

def test_asyncio(workload_api):
    import asyncio
    from authsec_sdk import WorkloadAPIClient
    async def main():
        async with WorkloadAPIClient(workload_api.address) as client:
            return (await client.fetch_x509_context(timeout=30)).svid.id
    assert str(asyncio.run(main())) == "spiffe://example.org/workload"
"""


def child(folder: Path, code: str) -> str:
    """Run a user's tests in a pytest of their own, and return what it said."""
    (folder / "test_user.py").write_text(code)
    options = ["-p", "no:cacheprovider", "--rootdir", str(folder), "-c", "/dev/null"]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", *options, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_loading_it_imports_nothing_else() -> None:
    result = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_user_can_use_the_fixtures(tmp_path: Path) -> None:
    assert "7 passed" in child(tmp_path, USERS_TEST), "the async one on asyncio and on trio"


def test_a_user_of_bare_loops_can_too(tmp_path: Path) -> None:
    assert "2 passed" in child(tmp_path, TRIOS_TEST)


def test_fixtures_are_named_in_the_help(tmp_path: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-q", "-c", "/dev/null", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    ).stdout
    for name in ("spiffe_ca", "workload_api", "mtls_pair", "rotate"):
        assert f"\n{name} --" in listed


def test_the_fixtures_belong_together(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    with X509Source(fake_workload_api.address) as source:
        assert str(source.x509_context.svid.id) == "spiffe://example.org/workload"
        assert source.x509_context.bundles[spiffe_ca.trust_domain] == spiffe_ca.bundle()
