"""Serve a tool over MCP in mutual TLS: python mcp_server.py PORT SPIFFE_ID_OF_THE_CALLER."""

import sys

from mcp.server.mcpserver import Context, MCPServer

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.mcp import CallerBoundSessions, peer_spiffe_id
from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer
from authsec_sdk.workloadapi import X509Source

tools = MCPServer("tools")


@tools.tool()
async def whoami(context: Context) -> str:
    """Say which workload calls."""
    return str(peer_spiffe_id(context))


def main(port: str, caller: str) -> None:
    with X509Source() as source:
        source.wait(timeout=10)
        app = CallerBoundSessions(tools.streamable_http_app())
        MTLSServer(MTLSConfig(app, source, authorize_id(caller), port=int(port))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
