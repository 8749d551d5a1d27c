"""WSGI applications, held to the contract through the standard library's server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from integration_contract.asgi import httpx_caller
from integration_contract.pair import Pair

from authsec_sdk.integrations.wsgiref import make_server


class WsgirefPair(Pair):
    """Serves a WSGI application, which must answer / with its caller's SPIFFE ID, to httpx."""

    connect = staticmethod(httpx_caller)

    def __init__(self, app: Any) -> None:
        self.app = app

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(port=0, hits=0)

        def counted(environ: Any, start_response: Any) -> Any:
            served.hits += 1
            return self.app(environ, start_response)

        with make_server(counted, source, authorizer, on_rejected=on_rejected) as server:
            served.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield served
            finally:
                server.shutdown()
                thread.join()
