"""Programs end cleanly in every loop: closed, forgotten, cancelled or interrupted; nothing is left or said."""

import signal
import subprocess
import sys
import textwrap

import pytest

from authsec_sdk.testing import FakeWorkloadAPI

PRELUDE = """
import asyncio, gc, signal, sys, threading
import anyio, trio, uvloop
from authsec_sdk.workloadapi import JWTSource, WITBundleSource, WITSource, X509BundleSource, X509Source

KINDS = (X509Source, X509BundleSource, JWTSource, WITSource, WITBundleSource)
address, loop = sys.argv[1:]

def run(main):
    if loop == "threads":
        return
    if loop == "trio":
        trio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
            runner.run(main())

def threads():
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
"""
CLOSED = """
async def main():
    for kind in KINDS:
        async with kind(address) as source:
            assert source.status.healthy

for kind in KINDS if loop == "threads" else ():
    with kind(address) as source:
        assert source.status.healthy
run(main)
for thread in threads():
    thread.join(30)
assert threads() == []
"""
FORGOTTEN = """
sources = [kind(address) for kind in KINDS]

async def main():
    for source in sources:
        await source.ready(30)

for source in sources if loop == "threads" else ():
    source.wait(30)
run(main)
"""
CANCELLED = """
async def main():
    sources = [kind(address) for kind in KINDS]

    async def follow(source):
        async with source:
            async for _ in source.updates():
                pass

    with anyio.move_on_after(30) as scope:
        async with anyio.create_task_group() as tasks:
            for source in sources:
                tasks.start_soon(follow, source)
            for source in sources:
                await source.ready()
            scope.cancel()
    assert [source.status.phase.value for source in sources] == ["closed"] * len(KINDS)

run(main)
"""
INTERRUPTED = """
async def main():
    async with X509Source(address) as source:
        print("ready", flush=True)
        async for _ in source.updates():
            pass

try:
    if loop == "threads":
        with X509Source(address) as source:
            print("ready", flush=True)
            source.wait(newer_than=source.x509_context)
    else:
        run(main)
except KeyboardInterrupt:
    print("interrupted")
"""


def start(program: str, fake: FakeWorkloadAPI, loop: str) -> "subprocess.Popen[str]":
    code = PRELUDE + textwrap.dedent(program)
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            code,
            fake.address,
            loop,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio", "threads"])
def test_a_program_ends(loop: str, fake: FakeWorkloadAPI) -> None:
    """Sources closed, then others cancelled, then others that are still open when the interpreter ends."""
    with start(CLOSED + CANCELLED + FORGOTTEN, fake, loop) as process:
        output, errors = process.communicate(timeout=90)
    assert (process.returncode, output, errors) == (0, "", "")
    fake.wait_until(lambda: fake.streams == 0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio", "threads"])
def test_ctrl_c_ends_it(loop: str, fake: FakeWorkloadAPI) -> None:
    with start(INTERRUPTED, fake, loop) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=90)
    assert (process.returncode, output, errors) == (0, "interrupted\n", "")
