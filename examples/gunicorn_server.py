"""Serve a WSGI application with gunicorn over mutual TLS: python gunicorn_server.py PORT SPIFFE_ID_OF_THE_CALLER.

A service has these settings in gunicorn.conf.py; here they are made in code, so that one file shows all of it.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.app.base import BaseApplication

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.gunicorn import MTLS
from authsec_sdk.integrations.wsgi import peer_spiffe_id


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = f"hello {peer_spiffe_id(environ)}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


class Server(BaseApplication):
    """gunicorn with settings from code."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return app


if __name__ == "__main__":
    mtls = MTLS(authorize_id(sys.argv[2]))
    Server(
        certfile=mtls.certfile,
        ssl_context=mtls.ssl_context,
        post_fork=mtls.post_fork,
        bind=f"127.0.0.1:{sys.argv[1]}",
        worker_class="gthread",
        workers=2,
        threads=4,
    ).run()
