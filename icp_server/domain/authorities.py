"""The kinds of authorities of a server, and when an operator may activate, taint or revoke one, in SPIRE's words."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from icp_server.domain.ca_slots import AuthorityRecord, CAJournal, Status
from icp_server.domain.errors import Internal, InvalidArgument, ServiceError, Unavailable
from icp_server.domain.upstream_root import upstream_root_id


class AuthorityKind(enum.Enum):
    """What an authority signs; the value is what store and journal call it."""

    X509 = "x509"
    JWT = "jwt"
    WIT = "wit"

    @property
    def words(self) -> str:
        """As SPIRE's messages name it."""
        return {"x509": "X.509", "jwt": "JWT", "wit": "WIT"}[self.value]


@dataclass(frozen=True, slots=True)
class TaintTexts:
    """How an authority in the bundle refuses to be tainted or revoked."""

    unknown_to_taint: str
    already_tainted: str
    unknown_to_revoke: str
    untainted: str


def _of_key(words: str) -> TaintTexts:
    unknown = f"no {words} Key found with provided key ID"
    return TaintTexts(unknown, "key is already tainted", unknown, "it is not possible to revoke an untainted key")


TAINT_TEXTS: Final[Mapping[AuthorityKind, TaintTexts]] = MappingProxyType(
    {
        AuthorityKind.X509: TaintTexts(
            "no ca found with provided subject key ID",
            "root CA is already tainted",
            "no root CA found with provided subject key ID",
            "it is not possible to revoke an untainted root CA",
        ),
        AuthorityKind.JWT: _of_key("JWT"),
        AuthorityKind.WIT: _of_key("WIT"),
    }
)


@dataclass(frozen=True, slots=True)
class LocalAuthorities:
    """The two authorities of one kind that an operator deals with: the active one and that of the other slot."""

    active: AuthorityRecord
    next: AuthorityRecord | None

    @classmethod
    def of(cls, journal: CAJournal) -> LocalAuthorities:
        """Read them from a journal.

        Raises:
            Unavailable: there is no active authority yet.
        """
        active = journal.having(Status.ACTIVE)
        if active is None:
            raise Unavailable("server is initializing")
        return cls(active, journal.beside(active))

    def check_activation(self, authority_id: str) -> None:
        """Return if this authority may be activated: the prepared one alone.

        Raises:
            InvalidArgument, Internal: it may not.
        """
        self._check_is_next(authority_id)
        if self.next is not None and self.next.status is not Status.PREPARED:
            raise Internal(f"only Prepared authorities can be activated: {_unsupported(self.next)}")

    def taintable(self, authority_id: str) -> AuthorityRecord:
        """The authority of this id, if it may be tainted: the old one alone.

        Raises:
            InvalidArgument: it may not.
        """
        if authority_id == self.active.authority_id:
            raise InvalidArgument("unable to taint current local authority")
        record = self._check_is_next(authority_id)
        if record.status is not Status.OLD:
            raise InvalidArgument(f"only Old local authorities can be tainted: {_unsupported(record)}")
        return record

    def check_revocation(self, kind: AuthorityKind, authority_id: str, published: frozenset[str]) -> None:
        """Return if this authority may be revoked, as far as slots decide; the bundle must have it tainted, too.

        Of X.509 authorities the old one alone; of token keys any of the bundle (`published`) that is not in use.

        Raises:
            InvalidArgument: it may not.
        """
        if problem := self._revocation_problem(kind, authority_id, published):
            raise InvalidArgument(f"invalid authority ID: {problem}")

    def check_upstream(self, subject_key_id: str) -> None:
        """Return if the upstream authority of this key identifier may be tainted or revoked.

        It may if it stands above the old local authority, and not above the active one.

        Raises:
            InvalidArgument: it may not.
        """
        if problem := self._upstream_problem(subject_key_id):
            raise InvalidArgument(f"provided subject key id is not valid: {problem}")

    def _upstream_problem(self, subject_key_id: str) -> str:
        if not subject_key_id:
            return "no subject key ID provided"
        if subject_key_id == upstream_root_id(self.active):
            return "unable to use upstream authority singing current authority"  # upstream's own spelling
        if self.next is None or subject_key_id != upstream_root_id(self.next):
            return "upstream authority didn't sign the old local authority"
        if self.next.status is Status.PREPARED:
            return "only upstream authorities signing an old authority can be used"
        return ""

    def _revocation_problem(self, kind: AuthorityKind, authority_id: str, published: frozenset[str]) -> str:
        if not authority_id:
            return "no authority ID provided"
        if authority_id == self.active.authority_id:
            return "unable to use current authority"
        beside = self.next is not None and authority_id == self.next.authority_id
        old = beside and self.next is not None and self.next.status is Status.OLD
        if kind is AuthorityKind.X509:
            return "" if old else "only Old local authority can be revoked"
        if beside:
            return "" if old else "unable to use a prepared key"
        return "" if authority_id in published else f"no {kind.words} authority found with provided authority ID"

    def _check_is_next(self, authority_id: str) -> AuthorityRecord:
        if not authority_id:
            raise InvalidArgument("no authority ID provided")
        if self.next is None or authority_id != self.next.authority_id:
            raise InvalidArgument("unexpected authority ID")
        return self.next


def failed(verb: str, kind: AuthorityKind, error: ServiceError) -> ServiceError:
    """Name in a refusal of the bundle what was tried, as in `failed to taint JWT authority: key is already tainted`."""
    return type(error)(f"failed to {verb} {kind.words} authority: {error.message}")


def _unsupported(record: AuthorityRecord) -> str:
    return f"unsupported local authority status: {record.status.name}"
