"""Where SPIRE's protobuf types stop: each message becomes a value here, and each value a message, side by side.

`…_to_wire` never fails on a valid value. `…_from_wire` takes what any peer may send. Masks are the messages
themselves: None is "everything", and identifiers (`id`, a bundle's trust domain) always pass.
"""

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.errors import InvalidSpiffeIDError, InvalidX509SVIDError
from authsec_sdk.proto.spire import entry_pb2, types_pb2
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.agents import Agent, JoinToken
from authsec_sdk.spire.entries import (
    AuthorizedEntry,
    EntryChanges,
    EntryRevision,
    InvalidEntryError,
    RegistrationEntry,
    validate_dns_name,
    validate_hint,
    validate_parent_id,
    validate_selectors,
    validate_spiffe_id,
)
from authsec_sdk.spire.selectors import InvalidSelectorError, Selector
from authsec_sdk.spire.svids import IssuedX509SVID
from authsec_sdk.spire.tainted import TaintedAuthorities
from authsec_sdk.spire.wire_bundles import (
    bundle_from_wire,
    bundle_to_wire,
    masked,
    published_from_wire,
    published_to_wire,
    tainted_from_wire,
)
from authsec_sdk.spire.wire_tokens import jwt_svid_to_wire, token_from_wire, wit_svid_to_wire

__all__ = [
    "AUTHORIZED_ENTRY_MASK",
    "TaintedAuthorities",
    "agent_from_wire",
    "agent_to_wire",
    "authorized_entry_from_wire",
    "bundle_from_wire",
    "bundle_to_wire",
    "entry_changes_from_wire",
    "entry_from_wire",
    "entry_to_wire",
    "join_token_from_wire",
    "join_token_to_wire",
    "jwt_svid_to_wire",
    "new_entry_from_wire",
    "published_from_wire",
    "published_to_wire",
    "revision_from_wire",
    "revision_to_wire",
    "selectors_from_wire",
    "selectors_to_wire",
    "spiffe_id_from_wire",
    "spiffe_id_to_wire",
    "svid_from_wire",
    "svid_to_wire",
    "tainted_from_wire",
    "token_from_wire",
    "wit_svid_to_wire",
]

AUTHORIZED_ENTRY_MASK = types_pb2.EntryMask(
    spiffe_id=True,
    selectors=True,
    federates_with=True,
    admin=True,
    downstream=True,
    revision_number=True,
    store_svid=True,
    hint=True,
    created_at=True,
    additional_attributes=True,
)
"""What an agent asks the server for: the fields of `AuthorizedEntry`."""


# --- SPIFFE IDs and selectors


def spiffe_id_to_wire(spiffe_id: SpiffeID) -> types_pb2.SPIFFEID:
    """The ID in its two pieces."""
    return types_pb2.SPIFFEID(trust_domain=spiffe_id.trust_domain.name, path=spiffe_id.path)


def spiffe_id_from_wire(message: types_pb2.SPIFFEID) -> SpiffeID:
    """Join the two pieces; an unset message has none.

    Raises:
        InvalidSpiffeIDError: a piece is invalid, or the message is empty.
    """
    if not message.trust_domain and not message.path:
        raise InvalidSpiffeIDError("request must specify SPIFFE ID")
    return SpiffeID.from_path(TrustDomain.parse(message.trust_domain), message.path)


def selectors_to_wire(selectors: Iterable[Selector]) -> list[types_pb2.Selector]:
    """The selectors in their order."""
    return [types_pb2.Selector(type=selector.type, value=selector.value) for selector in selectors]


def selectors_from_wire(messages: Iterable[types_pb2.Selector]) -> tuple[Selector, ...]:
    """The selectors in their order, duplicates and all.

    Raises:
        InvalidSelectorError: one of them is incomplete.
    """
    return tuple(Selector(message.type, message.value) for message in messages)


# --- entries


def entry_to_wire(entry: RegistrationEntry, mask: types_pb2.EntryMask | None = None) -> types_pb2.Entry:
    """The entry, or what the mask lets through of it."""
    message = types_pb2.Entry(
        id=entry.id,
        spiffe_id=spiffe_id_to_wire(entry.spiffe_id),
        parent_id=spiffe_id_to_wire(entry.parent_id),
        selectors=selectors_to_wire(entry.selectors),
        x509_svid_ttl=entry.x509_svid_ttl,
        jwt_svid_ttl=entry.jwt_svid_ttl,
        federates_with=[trust_domain.name for trust_domain in entry.federates_with],
        admin=entry.admin,
        downstream=entry.downstream,
        expires_at=entry.expires_at,
        dns_names=entry.dns_names,
        revision_number=entry.revision_number,
        store_svid=entry.store_svid,
        hint=entry.hint,
        created_at=entry.created_at,
    )
    if entry.disable_x509_svid_prefetch or entry.jwt_svid_include_jti:
        message.additional_attributes.disable_x509_svid_prefetch = entry.disable_x509_svid_prefetch
        message.additional_attributes.jwt_svid_include_jti = entry.jwt_svid_include_jti
    return masked(message, mask)


def entry_from_wire(message: types_pb2.Entry) -> RegistrationEntry:
    """Read an entry as a server shows it: well-formed, but not held against the rules for new ones.

    Raises:
        InvalidEntryError: an ID, a selector or a trust domain in it is malformed or missing.
    """
    return RegistrationEntry(
        id=message.id,
        parent_id=_entry_id_from_wire(message.parent_id, "invalid parent ID"),
        spiffe_id=_entry_id_from_wire(message.spiffe_id, "invalid spiffe ID"),
        dns_names=tuple(message.dns_names),
        federates_with=_federates_with(message),
        selectors=_entry_selectors(message),
        x509_svid_ttl=message.x509_svid_ttl,
        jwt_svid_ttl=message.jwt_svid_ttl,
        admin=message.admin,
        downstream=message.downstream,
        expires_at=message.expires_at,
        revision_number=message.revision_number,
        store_svid=message.store_svid,
        hint=message.hint,
        created_at=message.created_at,
        disable_x509_svid_prefetch=message.additional_attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti=message.additional_attributes.jwt_svid_include_jti,
    )


def new_entry_from_wire(message: types_pb2.Entry, trust_domain: TrustDomain) -> RegistrationEntry:
    """Read an entry to be created: well-formed, and within the rules a SPIRE server keeps at its API.

    Revision and creation time are the store's to set; what a caller sends for them is dropped. The store's own rules
    are left to `validate_new_entry`.

    Raises:
        InvalidEntryError: for the first rule broken, in SPIRE's order and words (its prefix is `failed to convert
            entry: `).
    """
    changes = entry_changes_from_wire(message, trust_domain, None)
    assert changes.spiffe_id is not None
    assert changes.parent_id is not None
    assert changes.selectors is not None
    blank = RegistrationEntry(
        id=changes.id, spiffe_id=changes.spiffe_id, parent_id=changes.parent_id, selectors=changes.selectors
    )
    return changes.apply_to(blank)


def entry_changes_from_wire(
    message: types_pb2.Entry, trust_domain: TrustDomain, mask: types_pb2.EntryMask | None
) -> EntryChanges:
    """Read what an update wants of the entry `message.id`: all of it without a mask, else what the mask names.

    Raises:
        InvalidEntryError: for the first rule broken, in SPIRE's order and words.
    """
    parent_id = spiffe_id = dns_names = federates_with = selectors = hint = None
    if mask is None or mask.parent_id:
        parent_id = _entry_id_from_wire(message.parent_id, "invalid parent ID")
        validate_parent_id(parent_id, trust_domain)
    if mask is None or mask.spiffe_id:
        spiffe_id = _entry_id_from_wire(message.spiffe_id, "invalid spiffe ID")
        validate_spiffe_id(spiffe_id, trust_domain)
    if mask is None or mask.dns_names:
        dns_names = tuple(message.dns_names)
        for name in dns_names:
            validate_dns_name(name)
    if mask is None or mask.federates_with:
        federates_with = _federates_with(message)
    if mask is None or mask.selectors:
        selectors = _entry_selectors(message)
        validate_selectors(selectors)
    if mask is None or mask.hint:
        hint = message.hint
        validate_hint(hint)
    attributes = message.additional_attributes if mask is None or mask.additional_attributes else None
    return EntryChanges(
        id=message.id,
        parent_id=parent_id,
        spiffe_id=spiffe_id,
        dns_names=dns_names,
        federates_with=federates_with,
        selectors=selectors,
        hint=hint,
        x509_svid_ttl=message.x509_svid_ttl if mask is None or mask.x509_svid_ttl else None,
        jwt_svid_ttl=message.jwt_svid_ttl if mask is None or mask.jwt_svid_ttl else None,
        admin=message.admin if mask is None or mask.admin else None,
        downstream=message.downstream if mask is None or mask.downstream else None,
        expires_at=message.expires_at if mask is None or mask.expires_at else None,
        store_svid=message.store_svid if mask is None or mask.store_svid else None,
        disable_x509_svid_prefetch=attributes.disable_x509_svid_prefetch if attributes is not None else None,
        jwt_svid_include_jti=attributes.jwt_svid_include_jti if attributes is not None else None,
    )


def authorized_entry_from_wire(message: types_pb2.Entry, trust_domain: TrustDomain) -> AuthorizedEntry:
    """Read an entry as an agent gets it. A foreign or incomplete one is refused: the agent could not use it.

    Raises:
        InvalidEntryError: no id, no selector, or an ID that is not below the agent's own trust domain.
    """
    if not message.id:
        raise InvalidEntryError("missing entry ID")
    spiffe_id = _entry_id_from_wire(message.spiffe_id, "invalid spiffe ID")
    if not spiffe_id.member_of(trust_domain):
        raise InvalidEntryError(f'invalid spiffe ID: "{spiffe_id}" is not a member of trust domain "{trust_domain}"')
    selectors = _entry_selectors(message)
    validate_selectors(selectors)
    return AuthorizedEntry(
        id=message.id,
        spiffe_id=spiffe_id,
        selectors=selectors,
        federates_with=_federates_with(message),
        admin=message.admin,
        downstream=message.downstream,
        revision_number=message.revision_number,
        store_svid=message.store_svid,
        hint=message.hint,
        created_at=message.created_at,
        disable_x509_svid_prefetch=message.additional_attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti=message.additional_attributes.jwt_svid_include_jti,
    )


def revision_to_wire(revision: EntryRevision) -> entry_pb2.EntryRevision:
    """One state of one entry."""
    return entry_pb2.EntryRevision(
        id=revision.id, revision_number=revision.revision_number, created_at=revision.created_at
    )


def revision_from_wire(message: entry_pb2.EntryRevision) -> EntryRevision:
    """One state of one entry."""
    return EntryRevision(message.id, message.revision_number, message.created_at)


# --- agents and tokens


def agent_to_wire(agent: Agent, mask: types_pb2.AgentMask | None = None) -> types_pb2.Agent:
    """The agent, or what the mask lets through of it."""
    message = types_pb2.Agent(
        id=spiffe_id_to_wire(agent.id),
        attestation_type=agent.attestation_type,
        x509svid_serial_number=agent.serial_number,
        x509svid_expires_at=agent.expires_at,
        selectors=selectors_to_wire(agent.selectors),
        banned=agent.banned,
        can_reattest=agent.can_reattest,
        agent_version=agent.agent_version,
    )
    return masked(message, mask)


def agent_from_wire(message: types_pb2.Agent) -> Agent:
    """Read an agent as a server shows it.

    Raises:
        InvalidSpiffeIDError: its ID is malformed or missing.
        InvalidSelectorError: a selector is incomplete.
    """
    return Agent(
        id=spiffe_id_from_wire(message.id),
        attestation_type=message.attestation_type,
        serial_number=message.x509svid_serial_number,
        expires_at=message.x509svid_expires_at,
        selectors=selectors_from_wire(message.selectors),
        banned=message.banned,
        can_reattest=message.can_reattest,
        agent_version=message.agent_version,
    )


def join_token_to_wire(token: JoinToken) -> types_pb2.JoinToken:
    """The token and when it ends."""
    return types_pb2.JoinToken(value=token.value, expires_at=token.expires_at)


def join_token_from_wire(message: types_pb2.JoinToken) -> JoinToken:
    """The token and when it ends."""
    return JoinToken(message.value, message.expires_at)


# --- SVIDs


def svid_to_wire(svid: IssuedX509SVID) -> types_pb2.X509SVID:
    """The chain as DER, leaf first."""
    return types_pb2.X509SVID(
        cert_chain=[certificate.public_bytes(Encoding.DER) for certificate in svid.certificates],
        id=spiffe_id_to_wire(svid.id),
        expires_at=svid.expires_at,
        hint=svid.hint,
    )


def svid_from_wire(message: types_pb2.X509SVID) -> IssuedX509SVID:
    """Read a chain the server signed.

    Raises:
        InvalidX509SVIDError: no certificate, or one that cannot be parsed.
        InvalidSpiffeIDError: its ID is malformed or missing.
    """
    if not message.cert_chain:
        raise InvalidX509SVIDError("the server sent an SVID without certificates")
    try:
        chain = tuple(x509.load_der_x509_certificate(der) for der in message.cert_chain)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidX509SVIDError(f"the server sent an SVID whose certificates cannot be parsed: {error}") from error
    return IssuedX509SVID(spiffe_id_from_wire(message.id), chain, message.expires_at, message.hint)


# --- pieces


def _entry_id_from_wire(message: types_pb2.SPIFFEID, what: str) -> SpiffeID:
    try:
        return spiffe_id_from_wire(message)
    except InvalidSpiffeIDError as error:
        raise InvalidEntryError(f"{what}: {error}") from error


def _entry_selectors(message: types_pb2.Entry) -> tuple[Selector, ...]:
    try:
        return selectors_from_wire(message.selectors)
    except InvalidSelectorError as error:
        raise InvalidEntryError(str(error)) from error


def _federates_with(message: types_pb2.Entry) -> tuple[TrustDomain, ...]:
    try:
        return tuple(TrustDomain.parse(text) for text in message.federates_with)
    except InvalidSpiffeIDError as error:
        raise InvalidEntryError(f"invalid federated trust domain: {error}") from error
