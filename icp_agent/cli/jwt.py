"""`icp-agent api fetch jwt` and `api validate jwt`: tokens of the Workload API, printed or judged."""

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from icp_agent.cli.client import SECURITY_HEADER, AgentCommand, CommandError
from icp_agent.cli.fetch import output_format


def fetch_jwt(arguments: Sequence[str]) -> int:
    """Fetch JWT-SVIDs for an audience, and the bundles that verify them; 1 if there is none."""
    command = AgentCommand(
        "fetch jwt",
        summary="Fetches a JWT SVID from the Workload API.",
        examples=("icp-agent api fetch jwt -audience payments", "icp-agent api fetch jwt -audience a,b -output json"),
    )
    flags = command.flags
    audience = flags.string("audience", "comma separated list of audience values")
    spiffe_id = flags.string("spiffeID", "SPIFFE ID subject (optional)")
    output = flags.custom("output", "Desired output format (pretty, json); default: pretty.", "pretty", output_format)
    timeout = flags.duration("timeout", "Time to wait for a response", timedelta(seconds=5))

    async def talk(channel: Channel) -> int:
        names = [name for name in audience.value.split(",") if name]
        if not names:
            raise CommandError("audience must be specified")
        stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
        seconds = timeout.value.total_seconds() or None
        request = workload_pb2.JWTSVIDRequest(audience=names, spiffe_id=spiffe_id.value)
        svids = await stub.FetchJWTSVID(request, timeout=seconds, metadata=SECURITY_HEADER)
        bundles = await _bundles(stub, seconds)
        if output.value == "json":
            print(_dump([_document(svids), _document(bundles)]))
        else:
            _print(svids, bundles)
        return 0

    return command.run(arguments, talk)


def validate_jwt(arguments: Sequence[str]) -> int:
    """Have the agent judge a token; 1 if it is not valid for the audience."""
    command = AgentCommand(
        "validate jwt",
        summary="Validates a JWT SVID.",
        examples=("icp-agent api validate jwt -audience payments -svid eyJ…",),
    )
    flags = command.flags
    audience = flags.string("audience", "expected audience value")
    svid = flags.string("svid", "JWT SVID")
    output = flags.custom("output", "Desired output format (pretty, json); default: pretty.", "pretty", output_format)
    timeout = flags.duration("timeout", "Time to wait for a response", timedelta(seconds=5))

    async def talk(channel: Channel) -> int:
        if not audience.value:
            raise CommandError("audience must be specified")
        if not svid.value:
            raise CommandError("svid must be specified")
        stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
        request = workload_pb2.ValidateJWTSVIDRequest(audience=audience.value, svid=svid.value)
        try:
            answer = await stub.ValidateJWTSVID(
                request, timeout=timeout.value.total_seconds() or None, metadata=SECURITY_HEADER
            )
        except GRPCError as error:
            if error.status is not Status.INVALID_ARGUMENT:
                raise
            print(f"SVID is not valid: {error.message}", file=sys.stderr)
            return 1
        document = _document(answer)
        if output.value == "json":
            print(_dump(document))
        else:
            print(f"SVID is valid.\nSPIFFE ID : {answer.spiffe_id}\nClaims    : {_dump(document['claims'])}")
        return 0

    return command.run(arguments, talk)


async def _bundles(stub: workload_grpc.SpiffeWorkloadAPIStub, seconds: float | None) -> workload_pb2.JWTBundlesResponse:
    async with stub.FetchJWTBundles.open(timeout=seconds, metadata=SECURITY_HEADER) as stream:
        await stream.send_message(workload_pb2.JWTBundlesRequest(), end=True)
        response = await stream.recv_message()
        if response is None:
            await stream.recv_trailing_metadata()
            raise CommandError("the agent ended the stream without an answer")
    return response


def _print(svids: workload_pb2.JWTSVIDResponse, bundles: workload_pb2.JWTBundlesResponse) -> None:
    for svid in svids.svids:
        print(f"token({svid.spiffe_id}):\n\t{svid.svid}")
        if svid.hint:
            print(f"hint({svid.spiffe_id}):\n\t{_plain(svid.hint)}")
    for name, data in sorted(bundles.bundles.items()):
        print(f"bundle({name}):\n\t{_indented(data)}")


def _indented(data: bytes) -> str:
    try:
        return json.dumps(json.loads(data), indent=4)
    except ValueError as error:
        raise CommandError(f"the agent sent a JWT bundle that is no JSON: {error}") from error


def _plain(text: str) -> str:
    """On one line, and without what moves a terminal's cursor: whoever makes an entry chooses its hint."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _document(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _dump(value: object) -> str:
    return json.dumps(_whole(value), separators=(",", ":"), sort_keys=True)


def _whole(value: Any) -> Any:
    """Numbers of a Struct are floating-point; whole ones are written as such, as Go's printer does."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
