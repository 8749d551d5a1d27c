"""``aiohttp.web`` in gunicorn's workers, over mutual TLS (package ``gunicorn``, extra ``aiohttp``).

``worker_class = MTLSWebWorker`` in a ``gunicorn.conf.py`` that has the settings of
:class:`authsec_sdk.integrations.gunicorn.MTLS`. Handlers read their caller with
:func:`authsec_sdk.integrations.aiohttp.peer_spiffe_id`. Handshakes have asyncio's own limit, 60 seconds.
"""

import ssl
from typing import Any

from aiohttp.worker import GunicornUVLoopWebWorker, GunicornWebWorker

from authsec_sdk.integrations.gunicorn import MTLS

__all__ = ["MTLSUVLoopWebWorker", "MTLSWebWorker"]


class MTLSWebWorker(GunicornWebWorker):
    """aiohttp's worker, on asyncio, whose connections are mutual TLS."""

    @staticmethod
    def _create_ssl_context(cfg: Any) -> ssl.SSLContext:
        return MTLS.of(cfg).context()


class MTLSUVLoopWebWorker(GunicornUVLoopWebWorker):
    """:class:`MTLSWebWorker` on uvloop."""

    @staticmethod
    def _create_ssl_context(cfg: Any) -> ssl.SSLContext:
        return MTLS.of(cfg).context()
