"""The page about files: each block does what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from authsec_sdk.testing import FakeWorkloadAPI, TestCA

ROOT = Path(__file__).resolve().parents[2]
READ, VERIFY = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs/how-to/files.md").read_text(), re.MULTILINE | re.DOTALL
)


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_read(tmp_path: Path, spiffe_ca: TestCA) -> None:
    credential = spiffe_ca.credential("/workload")
    (tmp_path / "svid.pem").write_bytes(credential.chain_pem())
    (tmp_path / "svid_key.pem").write_bytes(credential.key_pem())
    (tmp_path / "svid_key.pem").chmod(0o600)
    (tmp_path / "svid_bundle.pem").write_bytes(spiffe_ca.bundle().to_pem())
    done = run(READ, str(tmp_path))
    assert done.stdout == "spiffe://example.org/workload current=True\n", done.stderr


def test_verify(fake_workload_api: FakeWorkloadAPI) -> None:
    done = run(VERIFY, SPIFFE_ENDPOINT_SOCKET=fake_workload_api.address)
    assert done.stdout == "example.org\n", done.stderr
