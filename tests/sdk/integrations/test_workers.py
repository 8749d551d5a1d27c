"""uvicorn and Hypercorn with worker processes: each has its own identity, is replaced when it dies, and reloads."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration_contract.programs import Program, program

from authsec_sdk.authz import authorize_id, authorize_if
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations import hypercorn, uvicorn
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.testing import FakeWorkloadAPI

FRONTEND = "spiffe://example.org/frontend"
APP = """
import os
from authsec_sdk.integrations.asgi import peer_spiffe_id
from reporting import hit

WORD = "first"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    hit()
    body = f"{peer_spiffe_id(scope)} {WORD}".encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"x-pid", str(os.getpid()).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
MAIN = """
import sys
from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.{server} import run
from reporting import on_rejected, source

if __name__ == "__main__":
    run("served:app", authorize_id("spiffe://example.org/frontend"), source=source, port=int(sys.argv[1]),
        on_rejected=on_rejected, {options})
"""
SERVERS = {
    "uvicorn-h11": ("uvicorn", 'workers=2, http="h11", loop="asyncio"'),
    "uvicorn-httptools": ("uvicorn", 'workers=2, http="httptools", loop="uvloop"'),
    "hypercorn-asyncio": ("hypercorn", 'workers=2, worker_class="asyncio"'),
    "hypercorn-uvloop": ("hypercorn", 'workers=2, worker_class="uvloop"'),
    "hypercorn-trio": ("hypercorn", 'workers=2, worker_class="trio"'),
}


@contextmanager
def running(world: Any, server: str, options: str, on_rejected: Any = None) -> Iterator[Program]:
    files = {"served.py": APP, "main.py": MAIN.format(server=server, options=options)}
    with program(world.payments, on_rejected, files, lambda port: ["main.py", str(port)]) as served:
        yield served


def ask(world: Any, served: Program) -> tuple[int, str]:
    """Return which process answered, and what."""
    with mtls_client(world.frontend, authorize_id(world.payments_id), timeout=20) as client:
        response = client.get(f"https://127.0.0.1:{served.port}/")
        caller, _, word = response.text.partition(" ")
        assert caller == FRONTEND
        return int(response.headers["x-pid"]), word


def living(served: Program) -> set[int]:
    return {pid for pid in served.contexts if Path(f"/proc/{pid}").exists()}


@pytest.mark.parametrize("name", SERVERS)
def test_each_worker_follows_rotations_refuses_and_is_replaced(world: Any, name: str) -> None:
    heard: list[Any] = []
    with running(world, *SERVERS[name], heard.append) as served:
        served.until(lambda: len(served.contexts) == 2, "two workers")
        assert served.process.pid not in served.contexts, "the parent has no identity"
        for _ in range(2):
            assert {ask(world, served)[0] for _ in range(4)} <= set(served.contexts)
            world.ca.rotate()
            world.publish()
            world.ca.remove_old_roots()
            world.publish()
            served.until(served.caught_up, "the rotation in both workers")
        hits = served.hits
        world.frontend.publish(world.context(world.ca.svid("/intruder")))
        with pytest.raises(Exception, match=r"(?i)disconnected|reset|closed|EOF|alert"):
            ask(world, served)
        served.until(lambda: heard, "the reason")
        assert str(heard[0].spiffe_id) == "spiffe://example.org/intruder"
        assert served.hits == hits
        world.publish()
        served.until(served.caught_up, "the last rotation")
        victim, _ = ask(world, served)
        os.kill(victim, signal.SIGKILL)
        served.until(lambda: len(served.contexts) == 3, "a worker in its place")
        assert {ask(world, served)[0] for _ in range(4)} <= living(served)
        both = living(served)
        served.process.send_signal(signal.SIGHUP)
        served.until(lambda: len(served.contexts) == 5, "new workers")
        served.until(lambda: not living(served) & both, "the end of the old ones")
        ask(world, served)
        left = living(served)
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()], "none is left behind"


def test_workers_do_not_outlive_a_parent_that_is_killed(world: Any) -> None:
    with pytest.raises(AssertionError, match="ended"):
        with running(world, *SERVERS["uvicorn-h11"]) as served:
            served.until(lambda: len(served.contexts) == 2, "two workers")
            workers = living(served)
            served.process.kill()
            served.process.wait()
            served.until(lambda: False, "its end")
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers without a parent"
        time.sleep(0.05)


def test_reload(world: Any) -> None:
    with running(world, "uvicorn", "reload=True, reload_delay=0.05") as served:
        first, word = ask(world, served)
        assert word == "first"
        changed = served.folder / "served.py"
        changed.write_text(APP.replace('"first"', '"second"'))
        os.utime(changed, (2_000_000_000, 2_000_000_000))
        served.until(lambda: len(served.contexts) == 2, "another process")
        served.until(lambda: not Path(f"/proc/{first}").exists(), "the end of the first")
        assert ask(world, served)[1] == "second"


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_workers_without_an_identity_do_not_start(world: Any, server: str, tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text(
        f"import functools\nfrom authsec_sdk.authz import authorize_id\n"
        f"from authsec_sdk.integrations.{server} import run\nfrom authsec_sdk.workloadapi import X509Source\n"
        f"source = functools.partial(X509Source, 'unix:///nowhere', ready_timeout=0.2)\n"
        f"if __name__ == '__main__':\n"
        f"    run('main:app', authorize_id('{FRONTEND}'), source=source, port=0, workers=2)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(uvicorn.__file__).parents[2])}
    done = subprocess.run([sys.executable, str(main)], env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert "UnavailableError: a worker process got no identity in time" in done.stderr
    assert "unix:/nowhere" in done.stderr.replace("///", "/")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


def test_what_cannot_reach_another_process_is_refused_in_words() -> None:
    anybody = authorize_id(FRONTEND)
    with pytest.raises(CallerError, match="module:name"):
        uvicorn.run(nothing, anybody, workers=2)
    for run in (uvicorn.run, hypercorn.run):
        with pytest.raises(CallerError, match="by its name"):
            run("served:app", authorize_if(lambda peer: True, "anybody"), workers=2, port=0)
        with pytest.raises(CallerError, match="workers"):
            run("served:app", anybody, workers=0)
    with pytest.raises(CallerError, match="reload"):
        uvicorn.run("served:app", anybody, workers=2, reload=True)


def test_a_unix_socket_of_its_own_and_no_file_of_anothers(tmp_path: Path, world: Any) -> None:
    path = tmp_path / "file"
    path.write_text("a file")
    with pytest.raises(FileExistsError, match="no socket"):
        uvicorn.run("served:app", authorize_id(FRONTEND), uds=str(path), workers=2)
    assert path.read_text() == "a file"
    with socket.create_server(("127.0.0.1", 0)) as taken, FakeWorkloadAPI(), pytest.raises(OSError, match="in use"):
        uvicorn.run("served:app", authorize_id(FRONTEND), port=taken.getsockname()[1], workers=2)
