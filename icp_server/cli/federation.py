"""`icp-server federation`: whose bundles are followed, where they are fetched, and fetching one now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from authsec_sdk.proto.spire import trustdomain_grpc, trustdomain_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from icp_server.cli.api import TIMEOUT, APICommand, CommandError, rpc_error
from icp_server.cli.federation_data import RelationshipFlags
from icp_server.cli.output import Console, plural, quote
from icp_server.grpc_api.errors import status_name


def create(arguments: Sequence[str]) -> int:
    """Create relationships and print them; exit 1 if one failed (but not with JSON, which says so itself)."""
    return _write(
        arguments,
        "create",
        "Creates relationships with other trust domains, whose bundles are then followed.",
        lambda stub, items: stub.BatchCreateFederationRelationship(
            trustdomain_pb2.BatchCreateFederationRelationshipRequest(federation_relationships=items), timeout=TIMEOUT
        ),
    )


def update(arguments: Sequence[str]) -> int:
    """Change relationships and print them; exit 1 if one failed (but not with JSON)."""
    return _write(
        arguments,
        "update",
        "Changes relationships with other trust domains.",
        lambda stub, items: stub.BatchUpdateFederationRelationship(
            trustdomain_pb2.BatchUpdateFederationRelationshipRequest(federation_relationships=items), timeout=TIMEOUT
        ),
    )


def list_(arguments: Sequence[str]) -> int:
    """Print the relationships made through the API."""
    command = APICommand(
        "federation list",
        summary="Prints the relationships made through the API; those of the configuration file are not among them.",
        examples=("", "-output json"),
    )

    async def talk(channel: Channel, console: Console) -> None:
        request = trustdomain_pb2.ListFederationRelationshipsRequest()
        try:
            stub = trustdomain_grpc.TrustDomainStub(channel)
            answer = await stub.ListFederationRelationships(request, timeout=TIMEOUT)
        except GRPCError as error:
            raise CommandError(f"error listing federation relationship: {rpc_error(error)}") from error
        if console.wants_json:
            console.json(answer)
            return
        found = answer.federation_relationships
        words = plural(len(found), "federation relationship", "federation relationships")
        console.out(f"Found {len(found)} {words}")
        for each in found:
            console.out()
            console.record(_lines(each))

    return command.run(arguments, talk)


def show(arguments: Sequence[str]) -> int:
    """Print one relationship."""
    command = APICommand(
        "federation show",
        summary="Prints the relationship with one trust domain.",
        examples=("-trustDomain partner.example",),
    )
    name = command.flags.string("trustDomain", "The trust domain name of the federation relationship to show")

    async def talk(channel: Channel, console: Console) -> None:
        if not name.value:
            raise CommandError("a trust domain name is required")
        request = trustdomain_pb2.GetFederationRelationshipRequest(trust_domain=name.value)
        try:
            stub = trustdomain_grpc.TrustDomainStub(channel)
            found = await stub.GetFederationRelationship(request, timeout=TIMEOUT)
        except GRPCError as error:
            raise CommandError(f"error showing federation relationship: {rpc_error(error)}") from error
        if console.wants_json:
            console.json(found)
            return
        console.record([f"Found a federation relationship with trust domain {name.value}:", ""])
        console.record(_lines(found))

    return command.run(arguments, talk)


def delete(arguments: Sequence[str]) -> int:
    """Remove a relationship."""
    command = APICommand(
        "federation delete",
        summary="Removes the relationship with a trust domain; its bundle stays, and is followed no more.",
        examples=("-id partner.example",),
    )
    name = command.flags.string("id", "SPIFFE ID of the trust domain")

    async def talk(channel: Channel, console: Console) -> None:
        if not name.value:
            raise CommandError("id is required")
        request = trustdomain_pb2.BatchDeleteFederationRelationshipRequest(trust_domains=[name.value])
        try:
            stub = trustdomain_grpc.TrustDomainStub(channel)
            answer = await stub.BatchDeleteFederationRelationship(request, timeout=TIMEOUT)
        except GRPCError as error:
            raise CommandError(f"failed to delete federation relationship: {rpc_error(error)}") from error
        if console.wants_json:
            console.json(answer)
            return
        (result,) = answer.results
        if result.status.code:
            raise CommandError(
                f"failed to delete federation relationship {quote(result.trust_domain)}: {result.status.message}"
            )
        console.out("federation relationship deleted.")

    return command.run(arguments, talk)


def refresh(arguments: Sequence[str]) -> int:
    """Fetch a bundle now."""
    command = APICommand(
        "federation refresh",
        summary="Fetches the bundle of a trust domain now, instead of when it is due.",
        examples=("-id partner.example",),
    )
    name = command.flags.string("id", "SPIFFE ID of the trust domain")

    async def talk(channel: Channel, console: Console) -> None:
        if not name.value:
            raise CommandError("id is required")
        request = trustdomain_pb2.RefreshBundleRequest(trust_domain=name.value)
        try:
            await trustdomain_grpc.TrustDomainStub(channel).RefreshBundle(request, timeout=TIMEOUT)
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                raise CommandError(
                    f"there is no federation relationship with trust domain {quote(name.value)}"
                ) from error
            raise CommandError(f"failed to refresh bundle: {rpc_error(error)}") from error
        if console.wants_json:
            console.json(types_pb2.Status(message="OK"))
        else:
            console.out("Bundle refreshed")

    return command.run(arguments, talk)


def _write(arguments: Sequence[str], verb: str, summary: str, call: Callable[[Any, list[Any]], Any]) -> int:
    command = APICommand(
        f"federation {verb}",
        summary=summary,
        examples=(
            (
                "-trustDomain partner.example -bundleEndpointURL https://partner.example:8443 "
                "-bundleEndpointProfile https_spiffe -endpointSpiffeID spiffe://partner.example/spire/server "
                "-trustDomainBundlePath partner.pem"
            ),
            "-data relationships.json",
        ),
    )
    described = RelationshipFlags(command.flags)

    async def talk(channel: Channel, console: Console) -> None:
        items = described.relationships()
        try:
            answer = await call(trustdomain_grpc.TrustDomainStub(channel), items)
        except GRPCError as error:
            raise CommandError(f"request failed: {rpc_error(error)}") from error
        if console.wants_json:
            console.json(answer)
        else:
            _print_results(console, answer.results, items, verb)

    return command.run(arguments, talk)


def _print_results(console: Console, results: Sequence[Any], items: Sequence[Any], verb: str) -> None:
    failed = [(result, item) for result, item in zip(results, items, strict=True) if result.status.code]
    for result in results:
        if not result.status.code:
            console.out()
            console.record(_lines(result.federation_relationship))
    for result, item in failed:
        console.out()
        code, message = status_name(result.status.code), quote(result.status.message)
        console.err(f"Failed to {verb} the following federation relationship (code: {code}, msg: {message}):")
        console.record(_lines(item), failed=True)
    if failed:
        raise CommandError(f"failed to {verb} one or more federation relationships")


def _lines(relationship: types_pb2.FederationRelationship) -> Iterator[str]:
    yield f"Trust domain              : {relationship.trust_domain}"
    yield f"Bundle endpoint URL       : {relationship.bundle_endpoint_url}"
    profile = relationship.WhichOneof("bundle_endpoint_profile")
    if profile is not None:
        yield f"Bundle endpoint profile   : {profile}"
    if profile == "https_spiffe":
        yield f"Endpoint SPIFFE ID        : {relationship.https_spiffe.endpoint_spiffe_id}"
