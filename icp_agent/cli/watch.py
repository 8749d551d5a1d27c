"""`icp-agent api watch`: prints every update of the Workload API, over every interruption, until it is interrupted."""

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_agent.cli.client import SECURITY_HEADER, AgentCommand, CommandError, rpc_error
from icp_agent.cli.svids import parse_response, print_received

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


def watch(arguments: Sequence[str]) -> int:
    """Print updates as they come; failures go to stderr and are tried again."""
    command = AgentCommand(
        "watch",
        summary="Attaches to the Workload API and prints updates as they're received.",
        examples=("icp-agent api watch", "icp-agent api watch -socketPath /run/agent/api.sock"),
    )
    return command.run(arguments, _watch)


async def _watch(channel: Channel) -> int:
    since, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
            async with stub.FetchX509SVID.open(metadata=SECURITY_HEADER) as stream:
                await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
                async for response in stream:
                    now = time.monotonic()
                    _print(response, timedelta(seconds=now - since))
                    since, pause = now, _FIRST_PAUSE
        except GRPCError as error:
            print(rpc_error(error), file=sys.stderr, flush=True)
        await asyncio.sleep(pause)
        pause = min(pause + _FIRST_PAUSE, _LONGEST_PAUSE)


def _print(response: workload_pb2.X509SVIDResponse, after: timedelta) -> None:
    try:
        received = parse_response(response, now=datetime.now(UTC))
    except CommandError as error:
        print(error, file=sys.stderr, flush=True)
        return
    print_received(received, after, lambda line: print(line, flush=True), hints=False)
