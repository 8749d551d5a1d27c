"""Registration entries: which SPIFFE ID a workload with these selectors gets from which agent, and their rules."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Self

from authsec_sdk.errors import CallerError, InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.dns_names import InvalidDNSNameError, check_dns_name
from authsec_sdk.spire.reserved_ids import check_member_id, check_workload_id
from authsec_sdk.spire.selectors import Selector

MAXIMUM_ENTRY_ID_LENGTH = 255
MAXIMUM_HINT_LENGTH = 1024
_ENTRY_ID_CHARACTERS = frozenset("-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


class InvalidEntryError(CallerError, ValueError):
    """The entry breaks a rule; the text is what a SPIRE server answers.

    `found_by_store`: SPIRE finds this one only in its data store, so its text begins with `datastore-validation:`, and
    what stands before it says `failed to create entry` and not `failed to convert entry`.
    """

    def __init__(self, message: str, *, found_by_store: bool = False) -> None:
        super().__init__(f"datastore-validation: {message}" if found_by_store else message)
        self.found_by_store = found_by_store


class RepeatedDNSNameError(InvalidEntryError):
    """A DNS name is listed twice, for which a SPIRE server's data store answers ALREADY_EXISTS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEntry:
    """An entry as the server keeps it. Times are seconds since 1970, lifetimes are seconds; 0 means the default.

    What holds by construction: the types alone. `validate_new_entry` keeps the rules.
    """

    id: str = ""
    spiffe_id: SpiffeID
    parent_id: SpiffeID
    selectors: tuple[Selector, ...]
    x509_svid_ttl: int = 0
    jwt_svid_ttl: int = 0
    federates_with: tuple[TrustDomain, ...] = ()
    admin: bool = False
    downstream: bool = False
    expires_at: int = 0
    dns_names: tuple[str, ...] = ()
    revision_number: int = 0
    store_svid: bool = False
    hint: str = ""
    created_at: int = 0
    disable_x509_svid_prefetch: bool = False
    jwt_svid_include_jti: bool = False

    def expired(self, now: float) -> bool:
        """Whether the entry has an end and it has come."""
        return 0 < self.expires_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChanges:
    """What an update wants to change of the entry `id`; None leaves a field as it is.

    Revision and creation time are the store's to set and so have no place here.
    """

    id: str
    spiffe_id: SpiffeID | None = None
    parent_id: SpiffeID | None = None
    selectors: tuple[Selector, ...] | None = None
    x509_svid_ttl: int | None = None
    jwt_svid_ttl: int | None = None
    federates_with: tuple[TrustDomain, ...] | None = None
    admin: bool | None = None
    downstream: bool | None = None
    expires_at: int | None = None
    dns_names: tuple[str, ...] | None = None
    store_svid: bool | None = None
    hint: str | None = None
    disable_x509_svid_prefetch: bool | None = None
    jwt_svid_include_jti: bool | None = None

    def apply_to(self, entry: RegistrationEntry) -> RegistrationEntry:
        """The entry as it would be; the rules are yet to be checked (`validate_new_entry`)."""
        wanted = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "id"}
        return replace(entry, **{name: value for name, value in wanted.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedEntry:
    """What an agent knows of an entry it may sign for: it neither needs nor asks for the rest."""

    id: str
    spiffe_id: SpiffeID
    selectors: tuple[Selector, ...]
    federates_with: tuple[TrustDomain, ...] = ()
    admin: bool = False
    downstream: bool = False
    revision_number: int = 0
    store_svid: bool = False
    hint: str = ""
    created_at: int = 0
    disable_x509_svid_prefetch: bool = False
    jwt_svid_include_jti: bool = False

    @classmethod
    def of(cls, entry: RegistrationEntry) -> Self:
        """The agent's view of a server's entry."""
        return cls(**{f.name: getattr(entry, f.name) for f in fields(cls)})

    @property
    def revision(self) -> "EntryRevision":
        """What tells whether a copy of this entry is stale."""
        return EntryRevision(self.id, self.revision_number, self.created_at)


@dataclass(frozen=True, slots=True)
class EntryRevision:
    """Identifies one state of one entry: a copy is stale when number or creation differ."""

    id: str
    revision_number: int
    created_at: int


def validate_new_entry(entry: RegistrationEntry, trust_domain: TrustDomain) -> None:
    """Every rule an entry to be created must keep, in the order a SPIRE server checks them.

    Not checked, since only the store knows: that the id is free, that no similar entry exists, and that a bundle is
    there for each trust domain federated with.

    Raises:
        InvalidEntryError: for the first rule broken.
    """
    validate_parent_id(entry.parent_id, trust_domain)
    validate_spiffe_id(entry.spiffe_id, trust_domain)
    for name in entry.dns_names:
        validate_dns_name(name)
    validate_selectors(entry.selectors)
    validate_hint(entry.hint)
    _validate_stored(entry)


def validate_parent_id(parent_id: SpiffeID, trust_domain: TrustDomain) -> None:
    """A parent is a member of the trust domain; it may be reserved (agents and the server are parents).

    Raises:
        InvalidEntryError: otherwise.
    """
    try:
        check_member_id(trust_domain, parent_id)
    except InvalidSpiffeIDError as error:
        raise InvalidEntryError(f"invalid parent ID: {error}") from error


def validate_spiffe_id(spiffe_id: SpiffeID, trust_domain: TrustDomain) -> None:
    """A workload's ID is a member of the trust domain and not reserved.

    Raises:
        InvalidEntryError: otherwise.
    """
    try:
        check_workload_id(trust_domain, spiffe_id)
    except InvalidSpiffeIDError as error:
        raise InvalidEntryError(f"invalid spiffe ID: {error}") from error


def validate_dns_name(name: str) -> None:
    """See `dns_names.check_dns_name`.

    Raises:
        InvalidEntryError: it is none.
    """
    try:
        check_dns_name(name)
    except InvalidDNSNameError as error:
        raise InvalidEntryError(f"invalid DNS name: {error}") from error


def validate_selectors(selectors: tuple[Selector, ...]) -> None:
    """An entry has at least one selector (each valid by construction).

    Raises:
        InvalidEntryError: it has none.
    """
    if not selectors:
        raise InvalidEntryError("selector list is empty")


def validate_hint(hint: str) -> None:
    """A hint has at most 1024 bytes.

    Raises:
        InvalidEntryError: it is longer.
    """
    if len(hint.encode()) > MAXIMUM_HINT_LENGTH:
        raise InvalidEntryError(f"hint is too long, max length is {MAXIMUM_HINT_LENGTH} characters")


def validate_entry_id(entry_id: str) -> None:
    """An id, where the caller chose one, is short and of plain characters.

    Raises:
        InvalidEntryError: otherwise.
    """
    if len(entry_id.encode()) > MAXIMUM_ENTRY_ID_LENGTH:
        raise InvalidEntryError("invalid registration entry: entry ID too long", found_by_store=True)
    if not _ENTRY_ID_CHARACTERS.issuperset(entry_id):
        raise InvalidEntryError("invalid registration entry: entry ID contains invalid characters", found_by_store=True)


def _validate_stored(entry: RegistrationEntry) -> None:
    if entry.store_svid:
        if entry.disable_x509_svid_prefetch:
            raise InvalidEntryError(
                "specifying cache behaviour is incompatible with storable SVIDs", found_by_store=True
            )
        if len({selector.type for selector in entry.selectors}) > 1:
            raise InvalidEntryError(
                "invalid registration entry: selector types must be the same when store SVID is enabled",
                found_by_store=True,
            )
    validate_entry_id(entry.id)
    if entry.x509_svid_ttl < 0:
        raise InvalidEntryError("invalid registration entry: X509SvidTtl is not set", found_by_store=True)
    if entry.jwt_svid_ttl < 0:
        raise InvalidEntryError("invalid registration entry: JwtSvidTtl is not set", found_by_store=True)
    if repeated := [name for name, count in Counter(entry.dns_names).items() if count > 1]:
        raise RepeatedDNSNameError(f'DNS name "{repeated[0]}" is listed twice')
