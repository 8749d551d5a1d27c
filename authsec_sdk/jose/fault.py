"""The one error of everything that reads a token, and the neutral names of what can be wrong with one."""

from __future__ import annotations

import enum

from authsec_sdk.errors import PeerCredentialError

__all__ = ["InvalidTokenError", "TokenFault"]


class TokenFault(enum.Enum):
    """What is wrong with a token, in a word that may be told to whoever sent it. Values do not change."""

    MALFORMED = "Malformed"
    """It is no JWS in compact serialization, or a part of it is no JSON object."""

    TOO_LARGE = "TooLarge"
    """It, or something in it, is larger than any token that is issued."""

    BAD_ENCODING = "BadEncoding"
    """A part is not base64url without padding, or not JSON in UTF-8 as everybody reads it."""

    DUPLICATE_MEMBER = "DuplicateMember"
    """A member name comes twice in one object, and readers would differ on which one counts."""

    ALGORITHM_NOT_ALLOWED = "AlgNotAllowed"
    """`alg` is none of the nine, or not one for the key that `kid` names."""

    HEADER_NOT_ALLOWED = "HeaderNotAllowed"
    """The header names a key or its place, or holds a member that this kind of token must not have."""

    CRITICAL = "Critical"
    """The header has `crit`: no extension is understood here."""

    WRONG_TYPE = "WrongType"
    """`typ` is that of another kind of token."""

    UNKNOWN_KEY = "UnknownKey"
    """No key of the bundle fits."""

    BAD_SIGNATURE = "BadSignature"
    """The signature is not by that key over this token."""

    KEY_INVALID = "KeyInvalid"
    """A key within or beside the token is malformed, private where it is to be public, or another one."""

    CLAIM_INVALID = "ClaimInvalid"
    """A claim is missing, must not be there, or is not what claims of its name are."""

    AUDIENCE_MISMATCH = "AudMismatch"
    """It is meant for others."""

    EXPIRED = "Expired"
    """Its time is over."""

    NOT_YET_VALID = "NotYet"
    """Its time has not begun (`nbf`)."""

    ISSUED_IN_THE_FUTURE = "FutureIat"
    """It says it was issued later than now (`iat`)."""

    REFUSED_BY_AGENT = "RefusedByAgent"
    """The agent that was asked to validate it refused it."""


class InvalidTokenError(PeerCredentialError, ValueError):
    """A token breaks a rule: `fault` says which kind of rule, the text says more, for our own operator's eyes.

    Neither ever holds the token, a part of it longer than an identifier, or a key.
    """

    def __init__(self, fault: TokenFault, message: str) -> None:
        super().__init__(fault, message)
        self.fault = fault
        self.message = message

    def __str__(self) -> str:
        return self.message
