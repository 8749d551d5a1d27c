"""How a fake Workload API answers about tokens: JWT-SVIDs, their validation, and WIT-SVIDs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from authsec_sdk.errors import PeerCredentialError
from authsec_sdk.proto import workload_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle, SpiffeID, WITBundle
from authsec_sdk.testing.ca import TestCA
from authsec_sdk.testing.tokens import TokenOptions
from authsec_sdk.workloadapi.jwt_wire import encode_jwt_bundles, encode_validated
from authsec_sdk.workloadapi.wit_wire import encode_wit_bundles, encode_wit_svids

__all__ = ["FakeTokens", "Identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the fake issues tokens for, and by which CA."""

    ca: TestCA
    path_or_id: str | SpiffeID
    hint: str

    @property
    def spiffe_id(self) -> SpiffeID:
        """The whole ID."""
        return self.ca.id(self.path_or_id)


@dataclass(slots=True)
class FakeTokens:
    """What `FakeWorkloadAPI.tokens` is: tokens for what `issue` issues, by the CAs' `TestCA.tokens`."""

    send: Callable[[], None]
    """Send the key bundles, and new WIT-SVIDs, to everybody who listens: after a CA's keys were changed."""

    options: TokenOptions = field(default_factory=TokenOptions)
    """What JWT-SVIDs are issued with, such as `TokenOptions(ttl=timedelta(seconds=10))`."""

    wit: bool = True
    """Whether there is a WIT profile at all. Where not, its calls are UNIMPLEMENTED, as at most agents."""

    answer: workload_pb2.JWTSVIDResponse | bytes | None = None
    """Answer FetchJWTSVID with exactly this instead."""

    calls: int = 0
    """How many FetchJWTSVID calls were answered."""

    validations: int = 0
    """How many ValidateJWTSVID calls were answered."""

    identities: list[Identity] = field(default_factory=list)
    foreign: list[TestCA] = field(default_factory=list)

    def rotate_keys(self, *, remove_old: bool = False) -> None:
        """Give every CA new keys for tokens, and send the update; with `remove_old` the old ones are gone at once."""
        for ca in self._cas(self.identities):
            ca.tokens.rotate()
            if remove_old:
                ca.tokens.remove_old_keys()
        self.send()

    def jwt_bundles(self) -> BundleSet[JWTBundle]:
        """The JWT bundles as they are now."""
        return BundleSet(ca.tokens.jwt_bundle() for ca in self._all_cas())

    def wit_bundles(self) -> BundleSet[WITBundle]:
        """The WIT bundles as they are now."""
        return BundleSet(ca.tokens.wit_bundle() for ca in self._all_cas())

    # --- answers ---------------------------------------------------------------------------------------------------

    def fetch(self, request: workload_pb2.JWTSVIDRequest) -> bytes:
        """Answer FetchJWTSVID as agents do."""
        self.calls += 1
        if self.answer is not None:
            return self.answer if isinstance(self.answer, bytes) else self.answer.SerializeToString()
        if not request.audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
        audience = list(request.audience)
        svids = [
            workload_pb2.JWTSVID(
                spiffe_id=str(one.spiffe_id),
                svid=one.ca.tokens.jwt_token(one.path_or_id, audience, **self.options),
                hint=one.hint,
            )
            for one in self.identities
            if request.spiffe_id in ("", str(one.spiffe_id))
        ]
        if not svids:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        return workload_pb2.JWTSVIDResponse(svids=svids).SerializeToString()

    def validate(self, request: workload_pb2.ValidateJWTSVIDRequest) -> bytes:
        """Answer ValidateJWTSVID as agents do."""
        self.validations += 1
        for name in ("audience", "svid"):
            if not getattr(request, name):
                raise GRPCError(Status.INVALID_ARGUMENT, f"{name} must be specified")
        now = datetime.now(UTC)
        try:
            svid = JWTSVID.parse_and_validate(request.svid, self.jwt_bundles(), [request.audience], now=now)
        except PeerCredentialError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None
        if svid.id.trust_domain not in {one.ca.trust_domain for one in self.identities}:
            svid = svid.limited_to(frozenset({"sub", "exp", "aud"}))
        return encode_validated(svid).SerializeToString()

    def jwt_bundles_message(self) -> bytes:
        """The message of FetchJWTBundles."""
        return encode_jwt_bundles(self.jwt_bundles()).SerializeToString()

    def wit_svids_message(self) -> bytes:
        """The message of FetchWITSVID, each time with new keys."""
        svids = [one.ca.tokens.wit_svid(one.path_or_id, hint=one.hint) for one in self.identities]
        return encode_wit_svids(svids).SerializeToString()

    def wit_bundles_message(self) -> bytes:
        """The message of FetchWITBundles."""
        return encode_wit_bundles(self.wit_bundles()).SerializeToString()

    def _all_cas(self) -> list[TestCA]:
        by_domain = {ca.trust_domain: ca for ca in (*self.foreign, *self._cas(self.identities))}
        return list(by_domain.values())

    @staticmethod
    def _cas(identities: Iterable[Identity]) -> list[TestCA]:
        return list(dict.fromkeys(one.ca for one in identities))
