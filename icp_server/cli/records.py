"""Entries and agents as text blocks, in SPIRE's words and columns."""

from collections.abc import Iterable, Iterator

from authsec_sdk.proto.spire import types_pb2
from icp_server.cli.output import local_time, utc_time


def id_text(spiffe_id: types_pb2.SPIFFEID) -> str:
    """Render an ID message; it came over the wire and is printed as it came."""
    if not spiffe_id.trust_domain and not spiffe_id.path:
        return ""
    return f"spiffe://{spiffe_id.trust_domain}{spiffe_id.path}"


def sorted_entries(entries: Iterable[types_pb2.Entry]) -> list[types_pb2.Entry]:
    """Put entries in the order SPIRE shows them: by ID, parent, lifetimes, selectors; selectors sorted in each."""
    for entry in entries:
        entry.selectors.sort(key=_selector_order)
    return sorted(entries, key=_entry_order)


def _entry_order(entry: types_pb2.Entry) -> tuple[object, ...]:
    return (
        (entry.spiffe_id.trust_domain, entry.spiffe_id.path),
        (entry.parent_id.trust_domain, entry.parent_id.path),
        (entry.x509_svid_ttl, entry.jwt_svid_ttl),
        (len(entry.selectors), [_selector_order(selector) for selector in entry.selectors]),
    )


def _selector_order(selector: types_pb2.Selector) -> tuple[str, str]:
    return selector.type, selector.value


def entry_lines(entry: types_pb2.Entry) -> Iterator[str]:
    """Render one registration entry; what is rare is shown only when set."""
    yield f"Entry ID                : {entry.id or '(none)'}"
    yield f"SPIFFE ID               : {id_text(entry.spiffe_id)}"
    yield f"Parent ID               : {id_text(entry.parent_id)}"
    yield f"Revision                : {entry.revision_number}"
    if entry.downstream:
        yield "Downstream              : true"
    yield f"X509-SVID TTL           : {entry.x509_svid_ttl or 'default'}"
    yield f"JWT-SVID TTL            : {entry.jwt_svid_ttl or 'default'}"
    if entry.expires_at:
        yield f"Expiration time         : {utc_time(entry.expires_at)}"
    for selector in entry.selectors:
        yield f"Selector                : {selector.type}:{selector.value}"
    for trust_domain in entry.federates_with:
        yield f"FederatesWith           : {trust_domain}"
    for name in entry.dns_names:
        yield f"DNS name                : {name}"
    if entry.admin:
        yield "Admin                   : true"
    if entry.store_svid:
        yield "StoreSvid               : true"
    if entry.hint:
        yield f"Hint                    : {entry.hint}"
    if entry.additional_attributes.disable_x509_svid_prefetch:
        yield "DisableX509SvidPrefetch : true"
    if entry.additional_attributes.jwt_svid_include_jti:
        yield "JwtSvidIncludeJti       : true"
    yield ""


def agent_lines(agent: types_pb2.Agent) -> Iterator[str]:
    """Render one attested agent; a banned one has no serial number to show."""
    yield f"SPIFFE ID         : {id_text(agent.id)}"
    yield f"Attestation type  : {agent.attestation_type}"
    yield f"Expiration time   : {local_time(agent.x509svid_expires_at)}"
    if agent.banned:
        yield "Banned            : true"
    else:
        yield f"Serial number     : {agent.x509svid_serial_number}"
    yield f"Can re-attest     : {'true' if agent.can_reattest else 'false'}"
    if agent.agent_version:
        yield f"Agent version     : {agent.agent_version}"
    yield ""
