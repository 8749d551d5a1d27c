"""Federation relationships by flags, or many by a file (`-data`) in the form SPIRE's commands read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import SpiffeID
from icp_common.flags import FlagSet
from icp_server.cli.api import CommandError
from icp_server.cli.bundle_data import PEM, SPIFFE, to_message
from icp_server.cli.entry_data import object_of, read_json, text_of
from icp_server.cli.output import quote

_KEYS = (
    "trustDomain",
    "bundleEndpointURL",
    "bundleEndpointProfile",
    "endpointSPIFFEID",
    "trustDomainBundleFormat",
)


class RelationshipFlags:
    """The flags that describe one relationship, and the one that names a file of many."""

    def __init__(self, flags: FlagSet) -> None:
        self._data = flags.string(
            "data",
            (
                "Path to a file containing federation relationships in JSON format (optional). "
                "If set to '-', read the JSON from stdin."
            ),
        )
        self._trust_domain = flags.string(
            "trustDomain", "Name of the trust domain to federate with (e.g., example.org)"
        )
        self._url = flags.string(
            "bundleEndpointURL",
            "URL of the SPIFFE bundle endpoint that provides the trust bundle (must use the HTTPS protocol)",
        )
        self._profile = flags.string(
            "bundleEndpointProfile", 'Endpoint profile type (either "https_web" or "https_spiffe")'
        )
        self._server_id = flags.string(
            "endpointSpiffeID", "SPIFFE ID of the SPIFFE bundle endpoint server. Only used for 'spiffe' profile."
        )
        self._path = flags.string("trustDomainBundlePath", "Path to the trust domain bundle data (optional).")
        self._format = flags.string(
            "trustDomainBundleFormat",
            f'The format of the bundle data (optional). Either "{PEM}" or "{SPIFFE}".',
            PEM,
        )

    def relationships(self) -> list[types_pb2.FederationRelationship]:
        """What the flags say.

        Raises:
            CommandError: something is missing or malformed, or both the file and the other flags are given.
            OSError: the file cannot be read.
        """
        fields = {
            "trustDomain": self._trust_domain.value,
            "bundleEndpointURL": self._url.value,
            "bundleEndpointProfile": self._profile.value,
            "endpointSPIFFEID": self._server_id.value,
            "trustDomainBundleFormat": self._format.value,
        }
        if not self._data.value:
            return [_relationship(fields, path=self._path.value)]
        if self._path.value or fields != dict.fromkeys(_KEYS, "") | {"trustDomainBundleFormat": PEM}:
            raise CommandError("cannot use other flags to specify relationship fields when 'data' flag is set")
        return _read_relationships(self._data.value)


def _read_relationships(path: str) -> list[types_pb2.FederationRelationship]:
    document = object_of(read_json(path), {"federationRelationships": _is_list}, path)
    checks = dict.fromkeys(_KEYS, text_of) | {"trustDomainBundle": _anything}
    found = []
    for number, item in enumerate(document.get("federationRelationships", [])):
        fields = object_of(item, checks, f"{path}: item {number}")
        try:
            found.append(_relationship(fields, raw=fields.get("trustDomainBundle")))
        except CommandError as error:
            raise CommandError(f"could not parse item {number}: {error}") from error
    return found


def _relationship(fields: Mapping[str, Any], *, path: str = "", raw: Any = None) -> types_pb2.FederationRelationship:
    trust_domain, url = fields.get("trustDomain", ""), fields.get("bundleEndpointURL", "")
    if not trust_domain:
        raise CommandError("trust domain is required")
    if not url:
        raise CommandError("bundle endpoint URL is required")
    message = types_pb2.FederationRelationship(trust_domain=trust_domain, bundle_endpoint_url=url)
    owner = _set_profile(message, fields)
    format_ = fields.get("trustDomainBundleFormat", "")
    if path:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise CommandError(f"cannot read bundle file: open {path}: {reason}") from error
        try:
            message.trust_domain_bundle.CopyFrom(to_message(data, format_, owner))
        except CommandError as error:
            raise CommandError(f"cannot parse bundle file: {error}") from error
    elif raw is not None:
        try:
            message.trust_domain_bundle.CopyFrom(_embedded(raw, format_, owner))
        except CommandError as error:
            raise CommandError(f"cannot parse bundle raw message: {error}") from error
    return message


def _set_profile(message: types_pb2.FederationRelationship, fields: Mapping[str, Any]) -> str:
    """Set the profile; whose bundle is given beside it: as upstream, that of the endpoint's own trust domain."""
    match fields.get("bundleEndpointProfile", ""):
        case "https_web":
            message.https_web.SetInParent()
            return message.trust_domain
        case "https_spiffe":
            text = fields.get("endpointSPIFFEID", "")
            if not text:
                raise CommandError("endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set")
            try:
                server_id = SpiffeID.parse(text)
            except InvalidSpiffeIDError as error:
                raise CommandError(f"cannot parse bundle endpoint SPIFFE ID: {error}") from error
            message.https_spiffe.endpoint_spiffe_id = text
            return server_id.trust_domain.name
        case other:
            raise CommandError(f"unknown bundle endpoint profile type: {quote(str(other))}")


def _embedded(raw: Any, format_: str, owner: str) -> types_pb2.Bundle:
    if format_ == PEM:
        if not isinstance(raw, str):
            raise CommandError("failed to unmarshal json: a PEM bundle must be a string")
        return to_message(raw.encode(), PEM, owner)
    if format_ == SPIFFE:
        return to_message(json.dumps(raw).encode(), SPIFFE, owner)
    raise CommandError(f"bundle format {quote(format_)} is unsupported")


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _anything(value: Any) -> bool:
    return True
