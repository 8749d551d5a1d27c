"""`icp-agent api fetch [x509]`: one answer of the Workload API, printed, as JSON, or written to files."""

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.json_format import MessageToDict

from authsec_sdk.atomic_file import write_atomic
from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel
from icp_agent.cli.client import SECURITY_HEADER, AgentCommand, CommandError
from icp_agent.cli.svids import Received, parse_response, print_received

_KEY_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644


def fetch_x509(arguments: Sequence[str]) -> int:
    """Fetch this process's SVIDs; 1 if there is none or the agent does not answer in time."""
    command = AgentCommand(
        "fetch x509",
        summary="Fetches X509 SVIDs from the Workload API.",
        examples=("icp-agent api fetch x509", "icp-agent api fetch x509 -write /run/svid -silent"),
    )
    flags = command.flags
    output = flags.custom("output", "Desired output format (pretty, json); default: pretty.", "pretty", output_format)
    silent = flags.boolean("silent", "Suppress stdout")
    timeout = flags.duration("timeout", "Time to wait for a response", timedelta(seconds=5))
    write = flags.string(
        "write", "Write SVID data to the specified path (optional; only available for pretty output format)"
    )

    async def talk(channel: Channel) -> int:
        began = time.monotonic()
        response = await _fetch(channel, timeout.value)
        after = timedelta(seconds=time.monotonic() - began)
        if output.value == "json":
            print(_json(response))
            return 0
        received = parse_response(response, now=datetime.now(UTC))
        if not silent.value:
            print_received(received, after, print)
        if write.value:
            _write(received, Path(write.value))
        return 0

    return command.run(arguments, talk)


async def _fetch(channel: Channel, timeout: timedelta) -> workload_pb2.X509SVIDResponse:
    stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
    seconds = timeout.total_seconds() or None
    async with stub.FetchX509SVID.open(timeout=seconds, metadata=SECURITY_HEADER) as stream:
        await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
        response = await stream.recv_message()
        if response is None:
            await stream.recv_trailing_metadata()
            raise CommandError("the agent ended the stream without an answer")
    return response


def _json(response: workload_pb2.X509SVIDResponse) -> str:
    document = MessageToDict(response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


def _write(received: list[Received], folder: Path) -> None:
    """One file for each chain, key and bundle. Keys are the owner's alone, whatever was there before."""
    for number, each in enumerate(received):
        chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in each.svid.certificates)
        key = each.svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_file(f"Writing SVID #{number}", folder / f"svid.{number}.pem", chain, _PUBLIC_MODE)
        _write_file(f"Writing key #{number}", folder / f"svid.{number}.key", key, _KEY_MODE)
        _write_file(f"Writing bundle #{number}", folder / f"bundle.{number}.pem", each.bundle.to_pem(), _PUBLIC_MODE)
        for other, (name, bundle) in enumerate(each.federated.items()):
            what = f"Writing federated bundle #{other} for trust domain {name}"
            _write_file(what, folder / f"federated_bundle.{number}.{other}.pem", bundle.to_pem(), _PUBLIC_MODE)


def _write_file(what: str, path: Path, data: bytes, mode: int) -> None:
    print(f"{what} to file {os.fspath(path)}.")
    try:
        write_atomic(path, data, mode)
    except OSError as error:
        raise CommandError(f"cannot write {os.fspath(path)}: {error.strerror}") from None


def output_format(text: str) -> str:
    """Read the flag `-output`.

    Raises:
        ValueError: there is no such format.
    """
    if text not in ("pretty", "json"):
        raise ValueError(f'bad formatter flag: unknown format option: "{text}"')
    return text
