"""The workload ``frontend``: calls ``payments`` over httpx without a pause, on kept-alive and on new connections."""

import asyncio
import hashlib
import os

import httpx

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import SpiffeError
from authsec_sdk.integrations.httpx import mtls_async_client, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source
from demo.events import emit

_NEW_CONNECTION_EACH = 10
_PAUSE = 0.01
_REPORT_EACH = 25


class Caller:
    """Counts what its calls came to, and tells when the server comes with a certificate not seen before."""

    def __init__(self, client: httpx.AsyncClient, me: str) -> None:
        self._client = client
        self._me = me
        self._certificates: set[str] = set()
        self.calls = 0
        self.failures = 0

    async def call(self) -> None:
        """Make one call and check who answered and whom it saw."""
        self.calls += 1
        headers = {"Connection": "close"} if self.calls % _NEW_CONNECTION_EACH == 0 else {}
        try:
            async with self._client.stream("POST", "/pay", headers=headers) as response:
                self._note_certificate(response)
                await response.aread()
            if response.status_code != 200 or response.json()["caller"] != self._me:
                raise RuntimeError(f"payments answered {response.status_code}: {response.text[:200]}")
        except (httpx.HTTPError, SpiffeError, RuntimeError) as error:
            self.failures += 1
            emit("call_failed", reason=f"{type(error).__name__}: {error}")

    def _note_certificate(self, response: httpx.Response) -> None:
        peer = peer_spiffe_id(response)
        leaf = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = hashlib.sha256(leaf).hexdigest()[:12]
        if certificate not in self._certificates:
            self._certificates.add(certificate)
            emit("peer_certificate", peer=str(peer), certificate=certificate)


async def main(url: str, payments: str) -> None:
    """Call until told to stop."""
    async with X509Source() as source:
        await source.ready(timeout=20)
        me = str(source.x509_context.svid.id)
        emit("identity", spiffe_id=me)
        async with mtls_async_client(source, authorize_id(payments), base_url=url) as client:
            caller = Caller(client, me)
            while True:
                await caller.call()
                if caller.calls % _REPORT_EACH == 0:
                    emit("calls", caller=me, callee=payments, calls=caller.calls, failures=caller.failures)
                await asyncio.sleep(_PAUSE)


if __name__ == "__main__":
    asyncio.run(main(os.environ["DEMO_URL"], os.environ["DEMO_PAYMENTS"]))
