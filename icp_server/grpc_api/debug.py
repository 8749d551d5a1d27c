"""The Debug service, on the admin socket alone: what the running server has to say about itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

import grpclib.server
from cryptography import x509
from cryptography.x509.oid import NameOID

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.proto.spire import debug_grpc, debug_pb2, types_pb2
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.wire import spiffe_id_to_wire
from icp_server.grpc_api.decode import request_of
from icp_server.services.server_info import ServerInfoService

_INT32: Final = 2**31 - 1


class DebugAPI(debug_grpc.DebugBase):
    """Calls the use case, encodes."""

    def __init__(self, info: ServerInfoService) -> None:
        self._info = info

    async def GetInfo(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[debug_pb2.GetInfoRequest, debug_pb2.GetInfoResponse]
    ) -> None:
        """Send what there is to say."""
        await request_of(stream)
        info = await self._info.get()
        reply = debug_pb2.GetInfoResponse(
            svid_chain=[
                debug_pb2.GetInfoResponse.Cert(
                    id=_id(certificate),
                    expires_at=int(certificate.not_valid_after_utc.timestamp()),
                    subject=subject_text(certificate.subject),
                )
                for certificate in info.svid_chain
            ],
            uptime=min(_INT32, max(0, int(info.uptime.total_seconds()))),
            agents_count=info.agents,
            entries_count=info.entries,
            federated_bundles_count=info.bundles,
        )
        await stream.send_message(reply)


def _id(certificate: x509.Certificate) -> types_pb2.SPIFFEID | None:
    """The ID of a certificate, be it an authority's; None if it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return spiffe_id_to_wire(SpiffeID.parse(uri))
    except (x509.ExtensionNotFound, InvalidSpiffeIDError, ValueError):
        return None


_ORDER: Final = {
    NameOID.SERIAL_NUMBER: "SERIALNUMBER",
    NameOID.COMMON_NAME: "CN",
    NameOID.POSTAL_CODE: "POSTALCODE",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.COUNTRY_NAME: "C",
}
_SPECIAL: Final = ',+"\\<>;'


def subject_text(name: x509.Name) -> str:
    """Render a subject as Go's `pkix.Name` prints one: known attributes in its fixed order, those of one kind as one.

    What it does not know comes after them here, by its object identifier.
    """
    return ",".join(_parts(name))


def _parts(name: x509.Name) -> Iterator[str]:
    for oid, short in _ORDER.items():
        values = [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]
        if values:
            yield "+".join(f"{short}={_escaped(value)}" for value in values)
    others = [attribute for attribute in name if attribute.oid not in _ORDER]
    for dotted, group in groupby(others, lambda attribute: attribute.oid.dotted_string):
        yield "+".join(f"{dotted}={_escaped(str(attribute.value))}" for attribute in group)


def _escaped(value: str) -> str:
    """RFC 4514 section 2.4."""
    text = "".join(f"\\{character}" if character in _SPECIAL else character for character in value)
    if text[:1] in (" ", "#"):
        text = "\\" + text
    return text[:-1] + "\\ " if len(text) > 1 and text.endswith(" ") else text
