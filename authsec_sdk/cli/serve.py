"""``authsec serve``: an ASGI application in mutual TLS, with no change to its code (extra ``uvicorn``)."""

import argparse
import copy
import functools
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from authsec_sdk.authz import (
    Authorizer,
    any_of,
    authorize_id,
    authorize_member_of,
    authorize_path,
    unsafe_authorize_any,
)
from authsec_sdk.cli.output import add_output, show
from authsec_sdk.cli.parsing import add_socket
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.policyfile import PolicyFile, load_policy
from authsec_sdk.workloadapi import X509Source

_EXAMPLES = """examples:
  authsec serve app:app --allow spiffe://example.org/frontend --port 8443
  authsec serve app:app --allow 'spiffe://example.org/ns/*/sa/web' --host 0.0.0.0 --port 8443 --workers 4
  authsec serve app:make_app --factory --allow-trust-domain example.org --reload
  authsec serve app:app --policy policy.yaml --port 8443
  authsec serve app:app --allow spiffe://example.org/frontend --uds /run/app.sock --output json

The application reads its caller from the scope:
  authsec_sdk.integrations.asgi.peer_spiffe_id(scope)      scope["extensions"]["spiffe"], and ["tls"]

Signals: SIGTERM and SIGINT end it gracefully; with --workers, SIGHUP replaces the workers one by one.

exit codes: 0 told to stop, 1 the application or the address is wrong, 2 wrong use, 3 no agent or no identity in time,
130 interrupted
"""


def register(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="an ASGI application in mutual TLS",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("app", metavar="MODULE:NAME", help="the application, as uvicorn takes it")
    callers = parser.add_argument_group("who may call (at least one of these; a caller that one of them names may)")
    callers.add_argument(
        "--allow", action="append", default=[], metavar="SPIFFE_ID", help="this ID, or a pattern with * for a segment"
    )
    callers.add_argument(
        "--allow-trust-domain", action="append", default=[], metavar="NAME", help="every member of a trust domain"
    )
    callers.add_argument("--policy", metavar="FILE", help="a policy document: who may connect, and make which request")
    callers.add_argument("--unsafe-allow-any", action="store_true", help="whoever has an identity that we can verify")
    address = parser.add_argument_group("where to listen")
    address.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    address.add_argument("--port", type=int, default=8443, help="default 8443; 0 takes a free one")
    address.add_argument("--uds", metavar="PATH", help="a Unix socket instead")
    address.add_argument("--fd", type=int, metavar="N", help="an inherited descriptor instead")
    server = parser.add_argument_group("the server")
    server.add_argument("--workers", type=int, default=1, metavar="N", help="processes, each with its own identity")
    server.add_argument("--reload", action="store_true", help="start again when files change (for development)")
    server.add_argument("--reload-dir", action="append", metavar="DIR", help="watch this folder; may be repeated")
    server.add_argument("--http", choices=("auto", "h11", "httptools"), default="auto", help="HTTP implementation")
    server.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto", help="event loop")
    server.add_argument("--lifespan", choices=("auto", "on", "off"), default="auto", help="ASGI lifespan")
    server.add_argument("--factory", action="store_true", help="NAME makes the application")
    server.add_argument("--app-dir", default=".", metavar="DIR", help="where to look for MODULE (default: here)")
    server.add_argument(
        "--log-level", choices=("critical", "error", "warning", "info", "debug", "trace"), default="info"
    )
    server.add_argument("--no-access-log", action="store_true", help="leave out a line for each request")
    server.add_argument("--handshake-timeout", type=float, default=10.0, metavar="SECONDS", help="default 10")
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    authorizer = _authorizer(options)
    if importlib.util.find_spec("uvicorn") is None:
        raise ConfigurationError("authsec serve needs uvicorn: pip install 'authsec-sdk[uvicorn]'")
    from authsec_sdk.integrations import uvicorn

    if options.workers < 1 or (options.reload and options.workers > 1):
        options.usage_error("--workers: at least 1, and no more with --reload")
    sys.path.insert(0, os.path.abspath(options.app_dir))  # noqa: PTH100 - for sys.path, without looking at links
    reloading = {"reload_dirs": options.reload_dir} if options.reload_dir else {}
    try:
        uvicorn.run(
            options.app,
            authorizer,
            policy=None if options.policy is None else functools.partial(PolicyFile, options.policy),
            source=functools.partial(X509Source, options.socket, ready_timeout=options.timeout),
            workers=options.workers,
            reload=options.reload,
            host=options.host,
            port=options.port,
            uds=options.uds,
            fd=options.fd,
            on_started=functools.partial(_tell, options, authorizer),
            http=options.http,
            loop=options.loop,
            lifespan=options.lifespan,
            factory=options.factory,
            log_level=options.log_level,
            log_config=_log_config(options.log_level),
            access_log=not options.no_access_log,
            handshake_timeout=options.handshake_timeout,
            **reloading,
        )
    except SystemExit as failed:  # uvicorn's way of saying that the application did not start; it has said why
        return 1 if failed.code else 0
    return 0


def _authorizer(options: argparse.Namespace) -> Authorizer | None:
    """Return whom the options name; None where a policy says it."""
    allowed: list[Authorizer] = [authorize_path(text) if "*" in text else authorize_id(text) for text in options.allow]
    allowed += [authorize_member_of(name) for name in options.allow_trust_domain]
    if options.policy is not None:
        if allowed or options.unsafe_allow_any:
            options.usage_error("--policy says who may call: leave out the callers you name beside it")
        load_policy(options.policy)  # so that what is wrong with it is said here, once
        return None
    if options.unsafe_allow_any:
        if allowed:
            options.usage_error("--unsafe-allow-any lets in everybody: leave it out, or the callers you name")
        return unsafe_authorize_any()
    if not allowed:
        options.usage_error("say who may call: --allow SPIFFE_ID, --allow-trust-domain NAME or --policy FILE")
    return allowed[0] if len(allowed) == 1 else any_of(*allowed)


def _tell(options: argparse.Namespace, authorizer: Authorizer | None, urls: Sequence[str]) -> None:
    """Say where it listens; standard output holds nothing else, so that scripts can wait for this line."""
    facts: dict[str, object] = {
        "serving": options.app,
        "urls": list(urls),
        "accepts": f"whom {options.policy} allows something" if authorizer is None else str(authorizer),
        "workers": options.workers,
        "pid": os.getpid(),
    }
    if options.output == "json":
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        show(facts, output="pretty")
    sys.stdout.flush()


def _log_config(level: str) -> dict[str, Any]:
    """Return uvicorn's logging with our own lines in it, all of it on standard error."""
    from uvicorn.config import LOGGING_CONFIG

    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    config["handlers"]["access"]["stream"] = config["handlers"]["default"]["stream"]
    ours = "DEBUG" if level == "trace" else level.upper()
    config["loggers"]["authsec_sdk"] = {"handlers": ["default"], "level": ours, "propagate": False}
    return config
