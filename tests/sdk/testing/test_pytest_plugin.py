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

def test_sync(fake_workload_api, spiffe_ca, monkeypatch):
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", fake_workload_api.address)
    with X509Source() as source:
        assert source.x509_context.bundles[spiffe_ca.trust_domain] == spiffe_ca.bundle()

@pytest.mark.anyio
async def test_async(fake_workload_api):
    async with X509Source(fake_workload_api.address) as source:
        fake_workload_api.rotate()
        async for context in source.updates():
            if source.status.updates == 2:
                break
"""


def test_loading_it_imports_nothing_else() -> None:
    result = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_user_can_use_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USERS_TEST)
    options = ["-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null"]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", *options, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout, "the second one on asyncio and on trio"


def test_the_fixtures_belong_together(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    with X509Source(fake_workload_api.address) as source:
        assert str(source.x509_context.svid.id) == "spiffe://example.org/workload"
        assert source.x509_context.bundles[spiffe_ca.trust_domain] == spiffe_ca.bundle()
