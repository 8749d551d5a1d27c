"""What authsec-sdk 4.x said of a token: a dict that can be made JSON of, or None where the token is invalid."""

import logging
from collections.abc import Awaitable, Mapping
from typing import Any

from authsec_sdk.errors import NoBundleForTrustDomainError
from authsec_sdk.jose.fault import InvalidTokenError
from authsec_sdk.spiffe import JWTSVID

__all__ = ["validated"]

_logger = logging.getLogger(__name__)


async def validated(validation: Awaitable[JWTSVID]) -> dict[str, Any] | None:
    """Return the token's `spiffe_id` and `claims`; None, and a line in the log, where it is invalid.

    Raises:
        SpiffeError: whatever else the validation raises: nobody knows whether the token is valid.
    """
    try:
        svid = await validation
    except (InvalidTokenError, NoBundleForTrustDomainError) as error:
        _logger.info("a JWT-SVID is refused: %s", error)
        return None
    return {"spiffe_id": str(svid.id), "claims": _plain(svid.claims)}


def _plain(value: Any) -> Any:
    """Copy a frozen value into dicts and lists, which are what JSON is made of."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
