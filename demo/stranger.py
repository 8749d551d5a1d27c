"""A process that no entry speaks of: the agent must give it no identity."""

import asyncio

from authsec_sdk.errors import NoIdentityError
from authsec_sdk.workloadapi import WorkloadAPIClient
from demo.events import emit


async def main() -> None:
    """Ask once and tell the answer."""
    async with WorkloadAPIClient() as client:
        try:
            context = await client.fetch_x509_context()
        except NoIdentityError as refusal:
            emit("no_identity", reason=str(refusal))
        else:
            emit("stranger_identified", spiffe_id=str(context.svid.id))


if __name__ == "__main__":
    asyncio.run(main())
