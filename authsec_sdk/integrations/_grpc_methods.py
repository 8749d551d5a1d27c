"""Who may call which gRPC method: a pure decision, for servers on grpcio and grpclib."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from authsec_sdk.authz import (
    Authorizer,
    Request,
    RequestAuthorizer,
    authorize,
    authorize_request,
    require_authorizer,
    require_request_authorizer,
)
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError
from authsec_sdk.spiffe import SpiffeID

__all__ = ["MethodPolicy"]

_PATTERN: Final = re.compile(r"/(?:[A-Za-z_][A-Za-z0-9_.]*/(?:[A-Za-z_][A-Za-z0-9_]*|\*)|\*)")


class MethodPolicy:
    """Who may call a server at all, and who may call each method.

    `methods` maps `/package.Service/Method`, `/package.Service/*` or `/*` to authorizers. A call is accepted if
    `authorizer` accepts the caller and, where `methods` is given, every pattern that matches does, and one matches:
    order does not matter, and a further pattern never allows more to a caller which it does not accept. Where `policy`
    is given, it must accept the call, too.

    Raises:
        InvalidAuthorizerError: one of the authorizers, or the policy, cannot be one.
        CallerError: a pattern is not one, or there is none.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        methods: Mapping[str, Authorizer] | None,
        policy: RequestAuthorizer | None = None,
    ) -> None:
        self.authorizer = require_authorizer(authorizer)
        self._methods = (
            None if methods is None else {_pattern(key): require_authorizer(methods[key]) for key in methods}
        )
        self._policy = None if policy is None else require_request_authorizer(policy)
        if self._methods == {}:
            raise CallerError("no methods: every call would be refused; name at least one, or leave `methods` out")

    @property
    def generation(self) -> int | None:
        """Read it before `authorize`: a call that lives on is judged again when it has changed. None: it never does."""
        return None if self._policy is None else self._policy.generation

    def authorize(self, peer: SpiffeID, method: str) -> None:
        """Return if `peer`, whose ID is proven, may call `method`.

        Raises:
            PeerNotAuthorizedError: it may not.
        """
        authorize(self.authorizer, peer)
        if self._policy is not None:
            authorize_request(self._policy, peer, Request.grpc(method))
        if self._methods is None:
            return
        service = method.rpartition("/")[0]
        matching = [found for key in (method, f"{service}/*", "/*") if (found := self._methods.get(key)) is not None]
        if not matching:
            raise PeerNotAuthorizedError(
                peer, wanted=f"a policy for method {method[:300]!a}", action="add one to `methods`"
            )
        for each in matching:
            authorize(each, peer)


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise CallerError(f"method {text!r}: want '/package.Service/Method', '/package.Service/*' or '/*'")
    return text
