"""The SDK's command line against our own agent."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from authsec_sdk.filesource import FileSource

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
pytestmark = pytest.mark.anyio


async def authsec(*arguments: object) -> tuple[int, str]:
    """`authsec …` as a process of its own: its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "authsec_sdk.cli", *map(str, arguments),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_fetch_doctor_and_run(server, start_agent, entry, folder):
    server.entries = {"a": entry("a")}
    agent = await start_agent()
    socket = ["--socket", f"unix://{agent.config.socket_path}"]
    code, out = await authsec("doctor", *socket, "--output", "json")
    findings = {check["check"]: check for check in json.loads(out)["checks"]}
    assert code == 0, out
    assert findings["security header"]["result"] == "ok"
    assert findings["identity"]["detail"] == "spiffe://example.org/web"
    files = folder / "svid"
    files.mkdir()
    code, out = await authsec("run", *socket, "--dir", files, "--once", "--swap")
    assert code == 0, out
    async with FileSource(files, trust_domain="example.org") as source:
        assert str(source.x509_context.svid.id) == "spiffe://example.org/web"
