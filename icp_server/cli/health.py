"""`icp-server healthcheck`: asks the server over its admin socket whether it is well."""

from __future__ import annotations

from collections.abc import Sequence

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_server.cli.api import APICommand, CommandError, rpc_error
from icp_server.cli.output import Console, quote

TIMEOUT = 10.0


def healthcheck(arguments: Sequence[str]) -> int:
    """Print whether the server is healthy; exit 1 if it is not, or cannot be asked."""
    command = APICommand(
        "healthcheck",
        summary="Asks the server whether it is healthy.",
        examples=("", "-socketPath /run/spire/server/private/api.sock -verbose"),
        prints_records=False,
    )
    command.flags.boolean("shallow", "Perform a less stringent health check")
    verbose = command.flags.boolean("verbose", "Print verbose information")

    async def talk(channel: Channel, console: Console) -> None:
        if verbose.value:
            console.out("Checking server health...")
        try:
            answer = await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except GRPCError as error:
            if verbose.value:
                console.err(f"Failed to check health: {rpc_error(error)}")
            raise CommandError("server is unhealthy: unable to determine health") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            raise CommandError(f"server is unhealthy: server returned status {quote(name)}")
        console.out("Server is healthy.")

    return command.run(arguments, talk)
