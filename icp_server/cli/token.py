"""`icp-server token generate`: a text that lets one agent attest, once."""

from __future__ import annotations

from collections.abc import Sequence

from authsec_sdk.proto.spire import agent_grpc, agent_pb2
from authsec_sdk.rpc import Channel
from icp_server.cli.api import TIMEOUT, APICommand
from icp_server.cli.ids import id_message
from icp_server.cli.numbers import int32
from icp_server.cli.output import Console


def generate(arguments: Sequence[str]) -> int:
    """Print a new join token."""
    command = APICommand(
        "token generate",
        summary="Makes a join token: one agent can attest with it, once, until it expires.",
        examples=("-spiffeID spiffe://example.org/node", "-spiffeID spiffe://example.org/node -ttl 60 -output json"),
    )
    ttl = command.flags.integer("ttl", "Token TTL in seconds", 600)
    spiffe_id = command.flags.string("spiffeID", "Additional SPIFFE ID to assign the token owner (optional)")

    async def talk(channel: Channel, console: Console) -> None:
        request = agent_pb2.CreateJoinTokenRequest(ttl=int32(ttl.value, "TTL"))
        if spiffe_id.value:
            request.agent_id.CopyFrom(id_message(spiffe_id.value))
        token = await agent_grpc.AgentStub(channel).CreateJoinToken(request, timeout=TIMEOUT)
        if console.wants_json:
            console.json(token)
            return
        console.out(f"Token: {token.value}")
        if not spiffe_id.value:
            console.out("Warning: Missing SPIFFE ID.")

    return command.run(arguments, talk)
