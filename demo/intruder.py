"""The workload ``intruder``: it has an identity of its own, and no right to call ``payments``."""

import asyncio
import os

import httpx

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_async_client
from authsec_sdk.workloadapi import X509Source
from demo.events import emit


async def main(url: str, payments: str) -> None:
    """Try one call and tell what came of it."""
    async with X509Source() as source:
        await source.ready(timeout=20)
        emit("identity", spiffe_id=str(source.x509_context.svid.id))
        async with mtls_async_client(source, authorize_id(payments), base_url=url) as client:
            try:
                response = await client.post("/pay")
            except httpx.TransportError as error:
                emit("intruder_refused", how=type(error).__name__)
            else:
                emit("intruder_served" if response.status_code == 200 else "intruder_refused", how=response.status_code)


if __name__ == "__main__":
    asyncio.run(main(os.environ["DEMO_URL"], os.environ["DEMO_PAYMENTS"]))
