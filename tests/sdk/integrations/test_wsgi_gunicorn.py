"""WSGI under gunicorn, which ends mutual TLS itself: the peer, trusted fronts, and the hook they need."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_client
from authsec_sdk.testing import FakeWorkloadAPI

ROOT = Path(__file__).parents[3]
FRONT, PAYMENTS = "spiffe://example.org/front", "spiffe://example.org/payments"
SAID = f"By={PAYMENTS};Hash={'ab' * 32};URI=spiffe://example.org/admin"

CONFIG = """
from authsec_sdk.authz import authorize_member_of
from authsec_sdk.integrations.gunicorn import MTLS

mtls = MTLS(authorize_member_of("example.org"))
certfile, ssl_context, post_fork = mtls.certfile, mtls.ssl_context, mtls.post_fork
"""
HOOK = "from authsec_sdk.integrations.wsgi import keep_raw_headers as pre_request\n"
APP = """
from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.integrations.trusted_front import TrustedFronts
from authsec_sdk.integrations.wsgi import Route, RouteAuthorizationMiddleware, TrustedFrontMiddleware, peer_spiffe_id

def tells(environ, start_response):
    forwarded = environ["authsec.forwarded"]
    seen = [key for key in environ if "FORWARDED_CLIENT" in key.upper()]
    body = f"{peer_spiffe_id(environ)} {forwarded and forwarded.spiffe_id} {seen}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

routes = [Route("/**", authorize_member_of("example.org")), Route("/admin", authorize_id("spiffe://example.org/admin"))]
judged = RouteAuthorizationMiddleware(tells, routes)
app = TrustedFrontMiddleware(judged, TrustedFronts("spiffe://example.org/payments", ["spiffe://example.org/front"]))
"""


@contextmanager
def gunicorn(folder: Path, agent: FakeWorkloadAPI, config: str, *options: str) -> Iterator[str]:
    """Run gunicorn with one worker; gives its URL."""
    (folder / "gunicorn.conf.py").write_text(config)
    (folder / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": f"{folder}:{ROOT}"}
        command = [sys.executable, "-m", "gunicorn", "-b", f"fd://{listener.fileno()}", *options, "app:app"]
        process = subprocess.Popen(
            command, cwd=folder, env=env, pass_fds=[listener.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
        print(output.decode())


def answers(world: Any, url: str, path: str, *requests: Any, http2: bool = False) -> list[Any]:
    """Call as a workload, with headers; text or status of each answer."""
    world.frontend.publish(world.context(world.ca.svid(path)))
    with mtls_client(world.frontend, authorize_id(PAYMENTS), timeout=30, http2=http2) as client:
        got = [client.get(url, headers=headers) for headers in requests]
    return [answer.text if answer.status_code == 200 else answer.status_code for answer in got]


@pytest.mark.parametrize(
    "options",
    [("-k", "sync"), ("-k", "gthread", "--threads", "2"), ("-k", "gthread", "--header-map", "dangerous")],
    ids=" ".join,
)
def test_gunicorn(world: Any, tmp_path: Path, options: tuple[str, ...]) -> None:
    real, forged = ("x-forwarded-client-cert", SAID), ("X_Forwarded_Client_Cert", SAID.replace("admin", "root"))
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/payments")
        with gunicorn(tmp_path, agent, CONFIG + HOOK, *options) as url:
            told = answers(world, url, "/frontend", [], [real], [forged])
            assert told == ["spiffe://example.org/frontend None []"] * 3
            mapped = "dangerous" in options
            by_front = answers(world, url, "/front", [real], [], [forged], [forged, real], [real, forged], [real, real])
            admin, nobody = f"{FRONT} spiffe://example.org/admin []", f"{FRONT} None []"
            # By default gunicorn drops names with underscores before anybody can map them.
            assert by_front == [admin, nobody, *([403, 403, 403] if mapped else [nobody, admin, admin]), 403]


def test_without_the_hook_nothing_of_a_front_is_believed(world: Any, tmp_path: Path) -> None:
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/payments")
        with gunicorn(tmp_path, agent, CONFIG, "-k", "gthread") as url:
            headers = [("x-forwarded-client-cert", SAID)]
            assert answers(world, url, "/front", headers, []) == [403, 403]
            assert answers(world, url, "/frontend", headers) == ["spiffe://example.org/frontend None []"]


def test_over_http2_nothing_of_a_front_is_believed(world: Any, tmp_path: Path) -> None:
    """Requests share the connection there, and gunicorn's hook has no place to keep the headers of each."""
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/payments")
        with gunicorn(tmp_path, agent, CONFIG + HOOK + 'http_protocols = "h2,h1"\n', "-k", "gthread") as url:
            headers = [("x-forwarded-client-cert", SAID)]
            assert answers(world, url, "/front", headers, [], http2=True) == [403, 403]
            assert answers(world, url, "/frontend", headers, http2=True) == ["spiffe://example.org/frontend None []"]
            assert answers(world, url, "/front", headers) == [f"{FRONT} spiffe://example.org/admin []"]


def test_a_claimed_prefix_does_not_hide_the_path(world: Any, tmp_path: Path) -> None:
    """gunicorn takes SCRIPT_NAME from a header where the caller is on loopback, as a front may be."""
    with FakeWorkloadAPI() as agent:
        agent.issue(world.ca, "/payments")
        with gunicorn(tmp_path, agent, CONFIG, "-k", "gthread") as url:
            told = answers(world, f"{url}/public/admin", "/frontend", {}, {"SCRIPT_NAME": "/public"})
            assert told == ["spiffe://example.org/frontend None []", 403]
