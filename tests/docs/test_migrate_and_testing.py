"""The pages on migration, py-spiffe and testing: each block runs, before and after, and says the same."""

import os
import re
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from authsec_sdk import QuickStartSVID
from authsec_sdk.testing import FakeWorkloadAPI

ROOT = Path(__file__).resolve().parents[2]
ID = "spiffe://example.org/workload"


def blocks(page: str) -> list[str]:
    text = (ROOT / f"docs/{page}.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def environment(agent: FakeWorkloadAPI) -> dict[str, str]:
    return {**os.environ, "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}


def said(code: list[str], agent: FakeWorkloadAPI) -> str:
    done = subprocess.run(
        [sys.executable, *code], env=environment(agent), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_from_py_spiffe(workload_api: FakeWorkloadAPI) -> None:
    before, after, tokens_before, tokens_after = blocks("migrate/py-spiffe")
    assert said(["-c", before], workload_api) == said(["-c", after], workload_api) == f"{ID}\n1\n"
    assert said(["-c", tokens_before], workload_api) == said(["-c", tokens_after], workload_api) == f"{ID}\n"


def test_adapters(workload_api: FakeWorkloadAPI) -> None:
    forth, back = blocks("integrations/py-spiffe")
    assert said(["-c", forth], workload_api) == said(["-c", back], workload_api) == f"{ID}\n"


def test_the_example(workload_api: FakeWorkloadAPI) -> None:
    assert said([str(ROOT / "examples/pyspiffe_bridge.py")], workload_api) == (
        f"py-spiffe's code sees {ID}\nour contexts present {ID}\n"
    )


def test_from_authsec_4(workload_api: FakeWorkloadAPI) -> None:
    before, after, _ = blocks("migrate/authsec-4")
    first = said(["-c", before], workload_api).splitlines()
    second = said(["-c", after], workload_api).splitlines()
    assert first[0] == first[2] == second[0] == ID
    assert first[1].split()[0] == second[1].split()[0] == ID
    assert "my-api" in first[1]
    assert "my-api" in second[1]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_recipe_for_uvicorn(workload_api: FakeWorkloadAPI) -> None:
    recipe = blocks("migrate/authsec-4")[2]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-c", recipe, str(port)],
        env=environment(workload_api),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not listening(port):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            svid = await QuickStartSVID.initialize(workload_api.address)
            try:
                context: ssl.SSLContext = svid.create_ssl_context_for_client()
                async with httpx.AsyncClient(verify=context) as client:
                    answer = await client.get(f"https://127.0.0.1:{port}/health")
            finally:
                await QuickStartSVID.shutdown()
        finally:
            process.kill()
    assert answer.json() == {"status": "ok", "identity": ID}


@pytest.mark.parametrize("number", range(6))
def test_how_to_test(tmp_path: Path, workload_api: FakeWorkloadAPI, number: int) -> None:
    code = blocks("how-to/testing")
    assert len(code) == 6
    (tmp_path / "test_user.py").write_text(code[number])
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null"]
    output = said(["-W", "error", "-m", "pytest", *options, str(tmp_path)], workload_api)
    assert " passed" in output
    assert "skipped" not in output
