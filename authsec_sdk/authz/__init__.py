"""Who may talk to whom: authorizers over SPIFFE IDs. Pure; refusal raises, the default is to refuse.

Each authorizer is called with the proven ID of a peer inside the handshake, so it must be fast and must not block.
"""

from authsec_sdk.authz.authorizers import Authorizer, authorize, require_authorizer
from authsec_sdk.authz.matchers import (
    Matcher,
    all_of,
    any_of,
    authorize_id,
    authorize_if,
    authorize_member_of,
    authorize_one_of,
    authorize_path,
    not_,
    unsafe_authorize_any,
)
from authsec_sdk.authz.policy import (
    Decision,
    Policy,
    RequestAuthorizer,
    RuleFinding,
    authorize_request,
    require_request_authorizer,
)
from authsec_sdk.authz.request import Request

__all__ = [
    "Authorizer",
    "Decision",
    "Matcher",
    "Policy",
    "Request",
    "RequestAuthorizer",
    "RuleFinding",
    "all_of",
    "any_of",
    "authorize",
    "authorize_id",
    "authorize_if",
    "authorize_member_of",
    "authorize_one_of",
    "authorize_path",
    "authorize_request",
    "not_",
    "require_authorizer",
    "require_request_authorizer",
    "unsafe_authorize_any",
]
