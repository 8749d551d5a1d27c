"""Where protobuf stops for WIT-SVIDs: the Workload API's messages become values, or are refused. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.errors import NoIdentityError, SpiffeError, WorkloadAPIError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.jws import MAX_TOKEN_BYTES
from authsec_sdk.jose.private_jwk import format_private_jwk
from authsec_sdk.proto import workload_pb2
from authsec_sdk.spiffe import WITSVID, BundleSet, WITBundle, format_key_set, parse_wit_key_set
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.token_wire import check_current, read_key_sets
from authsec_sdk.workloadapi.wire import check_count, check_size, shielded

__all__ = [
    "WITBundlesUpdate",
    "WITUpdate",
    "decode_wit_bundles",
    "decode_wit_svids",
    "encode_wit_bundles",
    "encode_wit_svids",
]


@dataclass(frozen=True, slots=True)
class WITUpdate:
    """One message of FetchWITSVID: at least one SVID, the default one first."""

    svids: tuple[WITSVID, ...]
    problems: tuple[SpiffeError, ...] = ()


@dataclass(frozen=True, slots=True)
class WITBundlesUpdate:
    """One message of FetchWITBundles. `problems` says which bundles were left out, and why."""

    bundles: BundleSet[WITBundle]
    problems: tuple[SpiffeError, ...] = ()


def decode_wit_svids(response: workload_pb2.WITSVIDResponse, now: datetime, limits: UpdateLimits) -> WITUpdate:
    """Read one message of FetchWITSVID.

    What holds of each SVID: it keeps the WIT-SVID standard in form and claims, its key is the one in `cnf`, it has the
    ID that the message says, and has not expired at `now`; no two have the same hint (the first one wins, section
    7.2.1). Not checked: the signature. Whoever it is shown to checks that.

    Raises:
        NoIdentityError: the message holds no SVID.
        InvalidTokenError: an SVID or its key breaks a rule.
        WorkloadAPIError: a limit is exceeded, or a mandatory field is empty. None of these carries a token or a key.
    """
    try:
        return shielded(lambda message: _update(message, now, limits), response)
    finally:
        del response  # it prints the private keys, and tracebacks show locals


def _update(response: workload_pb2.WITSVIDResponse, now: datetime, limits: UpdateLimits) -> WITUpdate:
    if not response.svids:
        raise NoIdentityError("the agent sent an update without any WIT-SVID")
    check_count(len(response.svids), limits.svids, "WIT-SVIDs")
    svids: list[WITSVID] = []
    hints: set[str] = set()
    for number, message in enumerate(response.svids, start=1):
        svid = _svid(message, f"WIT-SVID {number} of the agent's update", now, limits)
        if svid.hint not in hints:
            svids.append(svid)
        if svid.hint:
            hints.add(svid.hint)
    return WITUpdate(tuple(svids))


def _svid(message: workload_pb2.WITSVID, what: str, now: datetime, limits: UpdateLimits) -> WITSVID:
    if not (message.spiffe_id and message.wit_svid and message.wit_svid_key):
        raise WorkloadAPIError(f"{what} lacks its SPIFFE ID, its token or its key")
    check_size(len(message.wit_svid), MAX_TOKEN_BYTES, what)
    check_size(len(message.wit_svid_key), limits.key_bytes, f"the key of {what}")
    check_size(len(message.hint.encode()), limits.hint_bytes, f"the hint of {what}")
    svid = WITSVID.parse(message.wit_svid, message.wit_svid_key, hint=message.hint)
    if str(svid.id) != message.spiffe_id:
        raise InvalidTokenError(
            TokenFault.CLAIM_INVALID, f"{what} is said to be {message.spiffe_id[:200]!r}, its token says {svid.id}"
        )
    check_current(svid, what, now)
    return svid


def decode_wit_bundles(response: workload_pb2.WITBundlesResponse, limits: UpdateLimits) -> WITBundlesUpdate:
    """Read one message of FetchWITBundles. A bundle which is malformed is left out and its domain is not trusted.

    Raises:
        InvalidBundleError: the message holds no bundle (section 7.2.2 requires one).
        WorkloadAPIError: a limit is exceeded.
    """
    key_sets = {key: text.encode() for key, text in response.bundles.items()}
    return WITBundlesUpdate(*read_key_sets(key_sets, "WIT", parse_wit_key_set, limits))


def encode_wit_svids(svids: Iterable[WITSVID]) -> workload_pb2.WITSVIDResponse:
    """Write SVIDs, with their private keys, as an agent sends them."""
    return workload_pb2.WITSVIDResponse(
        svids=[
            workload_pb2.WITSVID(
                spiffe_id=str(svid.id),
                wit_svid=svid.token,
                wit_svid_key=json.dumps(format_private_jwk(svid.private_key)),
                hint=svid.hint,
            )
            for svid in svids
        ]
    )


def encode_wit_bundles(bundles: BundleSet[WITBundle]) -> workload_pb2.WITBundlesResponse:
    """Write bundles as an agent sends them: texts, where those of JWT-SVIDs are bytes."""
    return workload_pb2.WITBundlesResponse(
        bundles={str(bundle.trust_domain.id): format_key_set(bundle).decode() for bundle in bundles.values()}
    )
