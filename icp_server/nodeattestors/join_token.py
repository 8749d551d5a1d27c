"""Attestation by join token: whoever has the text first becomes its agent, with one key, once."""

from __future__ import annotations

from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import TrustDomain
from icp_server.domain import join_token
from icp_server.domain.errors import InvalidArgument
from icp_server.ports import (
    AttestationRequest,
    Clock,
    JoinTokenStore,
    MakeNodeAttestor,
    NodeAttestation,
    NodeAttestor,
    Store,
)


class JoinTokenAttestor:
    """Implements the `NodeAttestor` port: the payload is the text, there is no challenge, and no second time."""

    name = join_token.ATTESTATION_TYPE

    def __init__(self, trust_domain: TrustDomain, tokens: JoinTokenStore, clock: Clock) -> None:
        self._trust_domain = trust_domain
        self._tokens = tokens
        self._clock = clock

    async def attest(self, request: AttestationRequest) -> NodeAttestation:
        """Spend the token for this key.

        Raises:
            InvalidArgument: the token is unknown, spent by another key, or expired.
        """
        try:
            text = request.payload.decode("ascii")
            agent_id = join_token.agent_id_of(self._trust_domain, text)
        except (UnicodeDecodeError, InvalidArgument):
            # The answer for a token that was never made: no such text can have been one.
            raise InvalidArgument(join_token.UNKNOWN) from None
        await self._tokens.consume(text, request.key_digest, self._clock())
        return NodeAttestation(agent_id, (), can_reattest=False)


def _make(store: Store, clock: Clock) -> NodeAttestor:
    return JoinTokenAttestor(store.trust_domain, store.join_tokens, clock)


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings, of which there are none.

    Raises:
        ConfigurationError: there is one.
    """
    data.finish()
    return _make
