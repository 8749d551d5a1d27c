"""JWT-SVIDs and WIT-SVIDs in SPIRE's protobuf, both directions."""

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.svids import IssuedToken


def jwt_svid_to_wire(svid: IssuedToken) -> types_pb2.JWTSVID:
    """Encode a JWT-SVID."""
    return types_pb2.JWTSVID(
        token=svid.token,
        id=types_pb2.SPIFFEID(trust_domain=svid.id.trust_domain.name, path=svid.id.path),
        expires_at=svid.expires_at,
        issued_at=svid.issued_at,
        hint=svid.hint,
    )


def wit_svid_to_wire(svid: IssuedToken) -> types_pb2.WITSVID:
    """Encode a WIT-SVID."""
    return types_pb2.WITSVID(
        token=svid.token,
        id=types_pb2.SPIFFEID(trust_domain=svid.id.trust_domain.name, path=svid.id.path),
        expires_at=svid.expires_at,
        issued_at=svid.issued_at,
        hint=svid.hint,
    )


def token_from_wire(message: types_pb2.JWTSVID | types_pb2.WITSVID) -> IssuedToken:
    """Read a JWT-SVID or WIT-SVID. The token itself is not looked into.

    Raises:
        InvalidTokenError: there is no token, its ID is malformed, or a time is missing.
    """
    if not message.token:
        raise InvalidTokenError(TokenFault.MALFORMED, "the server sent no token")
    if message.expires_at <= 0 or message.issued_at <= 0:
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, "the server did not say when the token was issued or ends")
    try:
        spiffe_id = SpiffeID.parse(f"spiffe://{message.id.trust_domain}{message.id.path}")
    except InvalidSpiffeIDError as error:
        raise InvalidTokenError(TokenFault.CLAIM_INVALID, f"the server sent a malformed ID: {error}") from None
    return IssuedToken(spiffe_id, message.token, message.issued_at, message.expires_at, message.hint)
