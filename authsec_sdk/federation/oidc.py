"""What an OpenID Connect discovery document says of keys (OpenID Connect Discovery 1.0, section 4); pure."""

import json

from authsec_sdk.errors import InvalidBundleError, InvalidEndpointError
from authsec_sdk.federation.url import check_url

__all__ = ["keys_url"]


def keys_url(issuer: str, document: bytes) -> str:
    """Return where an issuer's keys are.

    Raises:
        InvalidBundleError: the document is no JSON object, is another issuer's, character by character (4.3), or names
            no https URL for its keys.
    """
    try:
        members: object = json.loads(document)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise InvalidBundleError(f"the discovery document of {issuer} is no JSON object")
    if members.get("issuer") != issuer:
        raise InvalidBundleError(f"the discovery document of {issuer} is that of another issuer")
    url = members.get("jwks_uri")
    if not isinstance(url, str):
        raise InvalidBundleError(f"the discovery document of {issuer} names no jwks_uri")
    try:
        check_url(url)
    except InvalidEndpointError as error:
        raise InvalidBundleError(f"the jwks_uri of {issuer} is not to be asked: {error}") from error
    return url
