"""uvicorn as gunicorn's worker, over mutual TLS (packages ``uvicorn-worker`` and ``gunicorn``, extra ``uvicorn``).

``worker_class = MTLSUvicornWorker`` in a ``gunicorn.conf.py`` that has the settings of
:class:`authsec_sdk.integrations.gunicorn.MTLS`. The application reads its caller with
:func:`authsec_sdk.integrations.asgi.peer_spiffe_id`.
"""

import sys
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from authsec_sdk.integrations.gunicorn import MTLS
from authsec_sdk.integrations.uvicorn import MTLSServer, carry_peers

__all__ = ["MTLSUvicornWorker"]


class MTLSUvicornWorker(UvicornWorker):  # type: ignore[misc] # its package says nothing of types
    """``UvicornWorker`` whose connections are mutual TLS, and whose scopes carry their peers.

    Forwarded headers are not believed; a subclass may set ``CONFIG_KWARGS`` as for ``UvicornWorker``.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "auto", "http": "auto", "proxy_headers": False}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mtls = MTLS.of(self.cfg)
        self.config.handshake_timeout = mtls.handshake_timeout
        self.config.ssl_context_factory = lambda _config, _default: mtls.context()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self.config.load()
        carry_peers(self.config)
        server = MTLSServer(self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
