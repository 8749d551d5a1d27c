"""What the messages about JWT-SVIDs and WIT-SVIDs have in common where they become values. Pure."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from authsec_sdk.errors import InvalidBundleError, SpiffeError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.spiffe import JWTSVID, WITSVID, BundleSet, JWTBundle, TrustDomain, WITBundle
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.wire import check_count, check_size, read_domain

__all__ = ["check_current", "read_key_sets"]

_Bundle = TypeVar("_Bundle", JWTBundle, WITBundle)


def check_current(svid: JWTSVID | WITSVID, what: str, now: datetime) -> None:
    """Refuse what the agent has sent too late.

    Raises:
        InvalidTokenError: it has expired.
    """
    if svid.is_expired(now):
        raise InvalidTokenError(
            TokenFault.EXPIRED,
            f"{what} ({svid.id}) expired at {svid.expires_at.isoformat()} and it is {now.isoformat()}: "
            "compare the clocks, or look why the agent does not renew it",
        )


def read_key_sets(
    key_sets: Mapping[str, bytes], kind: str, parse: Callable[[TrustDomain, bytes], _Bundle], limits: UpdateLimits
) -> tuple[BundleSet[_Bundle], tuple[SpiffeError, ...]]:
    """Return the bundles of a message, and why others were left out: a malformed one, whose domain is not trusted.

    Raises:
        InvalidBundleError: there is none (Workload API sections 6.2.2 and 7.2.2 require one).
        WorkloadAPIError: there are too many.
    """
    check_count(len(key_sets), limits.bundles, f"{kind} bundles")
    bundles: dict[TrustDomain, _Bundle] = {}
    problems: list[SpiffeError] = []
    for key in sorted(key_sets):
        try:
            domain = read_domain(key)
            check_size(len(key_sets[key]), limits.bundle_bytes, f"the {kind} bundle of {domain}")
            bundles[domain] = parse(domain, key_sets[key])
        except SpiffeError as error:
            problems.append(error.with_traceback(None))
    if not bundles and not problems:
        raise InvalidBundleError(f"the agent sent an update without any {kind} bundle")
    return BundleSet(bundles.values()), tuple(problems)
