"""`icp-agent healthcheck`: asks the agent whether it can do its work, and with -verbose in which state it is."""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_agent.api.health import STATE_HEADER
from icp_agent.cli.client import AgentCommand, rpc_error

_TIMEOUT: Final = 10.0


def healthcheck(arguments: Sequence[str]) -> int:
    """0 if the agent is healthy; 1 if it is not, or does not answer."""
    command = AgentCommand(
        "healthcheck",
        summary="Asks the agent whether it is healthy.",
        examples=("icp-agent healthcheck", "icp-agent healthcheck -verbose -socketPath /run/agent/api.sock"),
    )
    command.flags.boolean("shallow", "Perform a less stringent health check")
    verbose = command.flags.boolean("verbose", "Print verbose information")

    async def talk(channel: Channel) -> int:
        if verbose.value:
            print("Checking agent health...")
        try:
            status, state = await _ask(channel)
        except GRPCError as error:
            if verbose.value:
                print(f"Failed to check health: {rpc_error(error)}", file=sys.stderr)
            print("Agent is unhealthy: unable to determine health", file=sys.stderr)
            return 1
        if verbose.value and state:
            print(f"State: {state}")
        if status != health_pb2.HealthCheckResponse.SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
            print(f'Agent is unhealthy: agent returned status "{name}"', file=sys.stderr)
            return 1
        print("Agent is healthy.")
        return 0

    return command.run(arguments, talk)


async def _ask(channel: Channel) -> tuple[health_pb2.HealthCheckResponse.ServingStatus, str]:
    async with health_grpc.HealthStub(channel).Check.open(timeout=_TIMEOUT) as stream:
        await stream.send_message(health_pb2.HealthCheckRequest(), end=True)
        answer = await stream.recv_message()
        assert answer is not None
        metadata: Mapping[str, object] = stream.initial_metadata or {}
    return answer.status, str(metadata.get(STATE_HEADER, ""))
