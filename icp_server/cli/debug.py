"""`icp-server debug getinfo`: what the running server has to say about itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from authsec_sdk.hcl.durations import format_duration
from authsec_sdk.proto.spire import debug_grpc, debug_pb2
from authsec_sdk.rpc import Channel
from icp_server.cli.api import TIMEOUT, APICommand
from icp_server.cli.output import Console
from icp_server.cli.records import id_text


def getinfo(arguments: Sequence[str]) -> int:
    """Print it."""
    command = APICommand(
        "debug getinfo", summary="Prints what the server has to say about itself.", examples=("", "-output json")
    )

    async def talk(channel: Channel, console: Console) -> None:
        info = await debug_grpc.DebugStub(channel).GetInfo(debug_pb2.GetInfoRequest(), timeout=TIMEOUT)
        if console.wants_json:
            console.json(info)
        else:
            console.record(_lines(info))

    return command.run(arguments, talk)


def _lines(info: debug_pb2.GetInfoResponse) -> Iterator[str]:
    yield "Server Debug Info:"
    yield f"  Uptime:                  {format_duration(timedelta(seconds=info.uptime))}"
    yield f"  Registered Agents:       {info.agents_count}"
    yield f"  Registration Entries:    {info.entries_count}"
    yield f"  Federated Bundles:       {info.federated_bundles_count}"
    if info.svid_chain:
        yield "  SVID Chain:"
    for number, certificate in enumerate(info.svid_chain):
        ends = datetime.fromtimestamp(certificate.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield f"    [{number}] SPIFFE ID:  {id_text(certificate.id) if certificate.HasField('id') else '(none)'}"
        yield f"        Subject:    {certificate.subject}"
        yield f"        Expires At: {ends}"
