"""`icp-server localauthority jwt|x509 …` and `upstreamauthority …`: the authorities of a server, moved by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from authsec_sdk.proto.spire import localauthority_grpc, localauthority_pb2
from authsec_sdk.rpc import Channel, GRPCError
from icp_server.cli.api import TIMEOUT, APICommand, CommandError, rpc_error
from icp_server.cli.output import Console, utc_time

_SUMMARIES = {
    "prepare": "Makes the next {0} authority and publishes it: all learn to trust it before it signs anything.",
    "activate": "Signs with the prepared {0} authority from now on.",
    "taint": "Marks the old {0} authority as tainted: agents replace at once what it signed.",
    "revoke": "Takes the tainted {0} authority out of the bundle: what it signed is worth nothing from now on.",
}
_DONE = {"prepare": "Prepared", "activate": "Activated", "taint": "Tainted", "revoke": "Revoked"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of authority: as the command line, the API, and people call it."""

    command: str
    api: str
    words: str


_JWT = _Kind("jwt", "JWT", "JWT")
_X509 = _Kind("x509", "X509", "X.509")


def show_jwt(arguments: Sequence[str]) -> int:
    """Print the JWT authorities."""
    return _show(_JWT, arguments)


def prepare_jwt(arguments: Sequence[str]) -> int:
    """Make the next JWT authority."""
    return _act(_JWT, "prepare", arguments)


def activate_jwt(arguments: Sequence[str]) -> int:
    """Sign with the prepared JWT authority."""
    return _act(_JWT, "activate", arguments)


def taint_jwt(arguments: Sequence[str]) -> int:
    """Mark the old JWT authority as tainted."""
    return _act(_JWT, "taint", arguments)


def revoke_jwt(arguments: Sequence[str]) -> int:
    """Take a tainted JWT authority out of the bundle."""
    return _act(_JWT, "revoke", arguments)


def show_x509(arguments: Sequence[str]) -> int:
    """Print the X.509 authorities."""
    return _show(_X509, arguments)


def prepare_x509(arguments: Sequence[str]) -> int:
    """Make the next X.509 authority."""
    return _act(_X509, "prepare", arguments)


def activate_x509(arguments: Sequence[str]) -> int:
    """Sign with the prepared X.509 authority."""
    return _act(_X509, "activate", arguments)


def taint_x509(arguments: Sequence[str]) -> int:
    """Mark the old X.509 authority as tainted."""
    return _act(_X509, "taint", arguments)


def revoke_x509(arguments: Sequence[str]) -> int:
    """Take a tainted X.509 authority out of the bundle."""
    return _act(_X509, "revoke", arguments)


def taint_upstream(arguments: Sequence[str]) -> int:
    """Mark an authority above ours as tainted."""
    return _upstream("taint", arguments)


def revoke_upstream(arguments: Sequence[str]) -> int:
    """Take a tainted authority above ours out of the bundle."""
    return _upstream("revoke", arguments)


def _show(kind: _Kind, arguments: Sequence[str]) -> int:
    command = APICommand(
        f"localauthority {kind.command} show",
        summary=f"Shows the {kind.words} authorities of this server.",
        examples=("", "-output json"),
    )

    async def talk(channel: Channel, console: Console) -> None:
        answer = await _call(channel, f"Get{kind.api}AuthorityState", f"could not get {kind.words} authorities")
        if console.wants_json:
            console.json(answer)
            return
        for number, status in enumerate(("active", "prepared", "old")):
            if number:
                console.out()
            console.out(f"{status.capitalize()} {kind.words} authority:")
            if answer.HasField(status):
                console.record(_state(kind, getattr(answer, status)))
            else:
                console.out(f"  No {status} {kind.words} authority found")

    return command.run(arguments, talk)


def _act(kind: _Kind, verb: str, arguments: Sequence[str]) -> int:
    prepares = verb == "prepare"
    command = APICommand(
        f"localauthority {kind.command} {verb}",
        summary=_SUMMARIES[verb].format(kind.words),
        examples=("",) if prepares else ("-authorityID 4f2a…",),
    )
    usage = f"The authority ID of the {kind.words} authority to {verb}"
    authority_id = None if prepares else command.flags.string("authorityID", usage)

    async def talk(channel: Channel, console: Console) -> None:
        fields = {}
        if authority_id is not None:
            if not authority_id.value:
                raise CommandError("an authority ID is required")
            fields["authority_id"] = authority_id.value
        problem = f"could not {verb} {kind.words} authority"
        answer = await _call(channel, f"{verb.capitalize()}{kind.api}Authority", problem, **fields)
        if console.wants_json:
            console.json(answer)
            return
        console.out(f"{_DONE[verb]} {kind.words} authority:")
        console.record(_state(kind, getattr(answer, f"{_DONE[verb].lower()}_authority")))

    return command.run(arguments, talk)


def _upstream(verb: str, arguments: Sequence[str]) -> int:
    command = APICommand(
        f"upstreamauthority {verb}",
        summary=_SUMMARIES[verb].format("upstream X.509"),
        examples=("-subjectKeyID 4f2a…",),
    )
    subject_key_id = command.flags.string(
        "subjectKeyID",
        "The X.509 Subject Key Identifier (or SKID) of the authority's CA certificate of the X.509 upstream authority "
        f"to {verb}",
    )

    async def talk(channel: Channel, console: Console) -> None:
        if not subject_key_id.value:
            raise CommandError("the Subject Key ID of the X.509 upstream authority is required")
        answer = await _call(
            channel,
            f"{verb.capitalize()}X509UpstreamAuthority",
            f"could not {verb} X.509 upstream authority",
            subject_key_id=subject_key_id.value,
        )
        if console.wants_json:
            console.json(answer)
            return
        console.out(f"{_DONE[verb]} X.509 upstream authority:")
        console.record([f"  Subject Key ID: {answer.upstream_authority_subject_key_id}"])

    return command.run(arguments, talk)


async def _call(channel: Channel, method: str, problem: str, **fields: str) -> Any:
    stub = localauthority_grpc.LocalAuthorityStub(channel)
    request = getattr(localauthority_pb2, f"{method}Request")(**fields)
    try:
        return await getattr(stub, method)(request, timeout=TIMEOUT)
    except GRPCError as error:
        raise CommandError(f"{problem}: {rpc_error(error)}") from error


def _state(kind: _Kind, state: localauthority_pb2.AuthorityState) -> list[str]:
    lines = [f"  Authority ID: {state.authority_id}", f"  Expires at: {utc_time(state.expires_at)}"]
    if kind is _X509:
        above = state.upstream_authority_subject_key_id or "No upstream authority"
        lines.append(f"  Upstream authority ID: {above}")
    return lines
