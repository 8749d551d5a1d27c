"""Call a tool over MCP in mutual TLS: python mcp_client.py URL SPIFFE_ID_OF_THE_SERVER."""

import sys

import anyio
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.mcp import mtls_http_client
from authsec_sdk.workloadapi import X509Source


async def main(url: str, server: str) -> None:
    async with (
        X509Source() as source,
        mtls_http_client(source, authorize_id(server)) as http,
        streamable_http_client(url, http_client=http) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        print((await session.call_tool("whoami")).content[0].text)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
