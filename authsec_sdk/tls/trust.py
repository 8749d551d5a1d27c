"""Which authorities one generation trusts, and in which order OpenSSL gets them: a pure decision.

OpenSSL searches one store for all trust domains, finds issuers by name, and does not try the second of a name. So a
federated domain that publishes a *look-alike* of somebody else's authority could make the victim's chains fail. It
could never make a forged one pass: `verify_membership` demands an authority of the leaf's own domain. Three things
keep the victim's chains working:

* only domains in which the authorizer could accept somebody are loaded at all;
* the own domain comes first, then whatever was known longest: of several candidates OpenSSL takes the first;
* a look-alike is set aside. Which of two it is never follows from names, which an attacker chooses: the own domain is
  never the look-alike, and otherwise the one known longer is not.

Two certificates of different domains look alike if they have the same key, or the same subject (as OpenSSL compares
names) unless subject key identifiers tell them apart. The exception is needed: two SPIRE servers with the subject of
SPIRE's sample configuration federate. Where two appear at the same instant, the one which its key did not sign is set
aside, and both where that decides nothing: trusting either would be a guess.

Where a look-alike, or a plain copy, of an intermediate ends a chain too early, `peer` verifies once more what was sent.
What remains: a look-alike, with another key, of an intermediate that we never saw and that has no key identifier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.spiffe import X509SVID, BundleSet, TrustDomain, X509Bundle
from authsec_sdk.tls.limits import TLSLimits

__all__ = ["Seniority", "SetAside", "TrustPlan", "plan_trust"]

_Name: TypeAlias = tuple[frozenset[tuple[str, str | bytes]], ...]

_OWN: Final = 0


@dataclass(frozen=True, slots=True)
class SetAside:
    """An authority, or a whole domain's (then without subject and fingerprint), that is not trusted, and why."""

    trust_domain: TrustDomain
    why: str
    subject: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        which = f"authority {self.subject!r} sha256={self.sha256} of" if self.sha256 else "all authorities of"
        return f"{which} trust_domain={self.trust_domain}: {self.why}"


@dataclass(frozen=True, slots=True)
class TrustPlan:
    """What to load: `authorities` in this order. `bundles` are those of every domain that could be accepted."""

    bundles: BundleSet[X509Bundle]
    authorities: tuple[x509.Certificate, ...]
    set_aside: tuple[SetAside, ...] = ()
    warnings: tuple[str, ...] = ()

    def why_set_aside(self, trust_domain: TrustDomain) -> str:
        """Say what of a domain was set aside; empty if nothing was."""
        return "; ".join(str(each) for each in self.set_aside if each.trust_domain == trust_domain)


class Seniority:
    """Remembers since which snapshot each certificate of a source is known. One for all contexts of a source."""

    def __init__(self) -> None:
        self._since: Mapping[tuple[TrustDomain, x509.Certificate], int] = {}
        self._snapshots = 0

    def observe(self, bundles: BundleSet[X509Bundle]) -> Mapping[tuple[TrustDomain, x509.Certificate], int]:
        """Take note of a snapshot and return since when each of its certificates is known; smaller is longer.

        What is no longer in it is forgotten, so this never grows beyond one snapshot.
        """
        known = self._since
        number = self._snapshots + 1
        since = {
            (bundle.trust_domain, authority): known.get((bundle.trust_domain, authority), number)
            for bundle in bundles.values()
            for authority in bundle.authorities
        }
        self._since, self._snapshots = since, number
        return since


@dataclass(frozen=True, slots=True)
class _Traits:
    """What OpenSSL finds an issuer by."""

    subject: _Name
    spki: bytes
    key_id: bytes | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    rank: int
    trust_domain: TrustDomain
    certificate: x509.Certificate
    traits: _Traits

    def looks_like(self, other: _Candidate) -> bool:
        if self.trust_domain == other.trust_domain or self.certificate == other.certificate:
            return False
        return _alike(self.traits, other.traits)

    def set_aside(self, why: str) -> SetAside:
        return _set_aside(self.trust_domain, self.certificate, why)


def plan_trust(
    bundles: BundleSet[X509Bundle],
    *,
    own: X509SVID | None,
    admitted: Collection[TrustDomain] | None,
    since: Mapping[tuple[TrustDomain, x509.Certificate], int],
    limits: TLSLimits,
) -> TrustPlan:
    """Decide what to trust of `bundles`.

    `own` tells the own domain and its intermediates, `admitted` the domains that can be accepted (None: all), `since`
    how long each certificate is known (`Seniority.observe`).
    """
    chosen = BundleSet.of(*(bundle for td, bundle in bundles.items() if admitted is None or td in admitted))
    own_domain = None if own is None else own.id.trust_domain
    set_aside: list[SetAside] = []
    candidates: list[_Candidate] = []
    for bundle in _within_limits(chosen, own_domain, since, limits, set_aside):
        for authority in bundle.authorities:
            rank = _OWN if bundle.trust_domain == own_domain else since[bundle.trust_domain, authority]
            traits = _traits(authority)
            if isinstance(traits, str):
                set_aside.append(_set_aside(bundle.trust_domain, authority, traits))
            else:
                candidates.append(_Candidate(rank, bundle.trust_domain, authority, traits))
    guards = _intermediates(own) if own is not None and own_domain in chosen else []
    trusted = _without_look_alikes(candidates, guards, set_aside)
    return TrustPlan(
        chosen,
        tuple(dict.fromkeys(candidate.certificate for candidate in trusted)),
        tuple(set_aside),
        tuple(_ambiguous_rollovers(trusted)),
    )


def _within_limits(
    bundles: BundleSet[X509Bundle],
    own_domain: TrustDomain | None,
    since: Mapping[tuple[TrustDomain, x509.Certificate], int],
    limits: TLSLimits,
    set_aside: list[SetAside],
) -> list[X509Bundle]:
    """Return the bundles that fit, the own one first, then by how long anything of a domain is known."""

    def order(bundle: X509Bundle) -> tuple[int, int]:
        if bundle.trust_domain == own_domain:
            return (_OWN, 0)
        return (min((since[bundle.trust_domain, each] for each in bundle.authorities), default=_OWN), len(bundle))

    fitting, total = [], 0
    for bundle in sorted(bundles.values(), key=order):
        if len(bundle) > limits.authorities_per_domain:
            why = (
                f"it has {len(bundle)} authorities, more than {limits.authorities_per_domain} (authorities_per_domain)"
            )
            set_aside.append(SetAside(bundle.trust_domain, why))
        elif total + len(bundle) > limits.authorities:
            why = (
                f"with its {len(bundle)} authorities there would be more than {limits.authorities} in all (authorities)"
            )
            set_aside.append(SetAside(bundle.trust_domain, why))
        else:
            total += len(bundle)
            fitting.append(bundle)
    return fitting


class _Index:
    """Candidates by key and by subject, to find look-alikes without comparing each with each."""

    def __init__(self, candidates: Iterable[_Candidate] = ()) -> None:
        self._by_spki: defaultdict[bytes, list[_Candidate]] = defaultdict(list)
        self._by_subject: defaultdict[_Name, list[_Candidate]] = defaultdict(list)
        for candidate in candidates:
            self.add(candidate)

    def add(self, candidate: _Candidate) -> None:
        self._by_spki[candidate.traits.spki].append(candidate)
        self._by_subject[candidate.traits.subject].append(candidate)

    def look_alikes(self, candidate: _Candidate) -> Iterable[_Candidate]:
        for each in (*self._by_spki[candidate.traits.spki], *self._by_subject[candidate.traits.subject]):
            if candidate.looks_like(each):
                yield each


def _without_look_alikes(
    candidates: list[_Candidate], guards: list[_Candidate], set_aside: list[SetAside]
) -> list[_Candidate]:
    """Return the candidates to trust, those known longest first; what is not trusted goes to `set_aside`."""
    trusted: list[_Candidate] = []
    index = _Index(guards)
    # Among certificates known equally long the order decides nothing but which comes first, and no name decides that.
    candidates.sort(key=lambda each: (each.rank, each.certificate.fingerprint(SHA256())))
    for _, group in groupby(candidates, key=lambda each: each.rank):
        newcomers: list[_Candidate] = []
        for candidate in group:
            original = next(iter(index.look_alikes(candidate)), None)
            if original is None:
                newcomers.append(candidate)
            else:
                set_aside.append(candidate.set_aside(f"it looks like an authority of {original.trust_domain}"))
        among = _Index(newcomers)
        for candidate in newcomers:
            doubles = list(among.look_alikes(candidate))
            if doubles and not (_self_signed(candidate) and not any(_self_signed(double) for double in doubles)):
                names = ", ".join(sorted({str(double.trust_domain) for double in doubles}))
                set_aside.append(candidate.set_aside(f"it and one of {names}, first seen with it, look alike"))
            else:
                trusted.append(candidate)
                index.add(candidate)
    return trusted


def _ambiguous_rollovers(trusted: list[_Candidate]) -> Iterable[str]:
    """Name domains whose own authorities OpenSSL cannot tell apart, so that peers under one of them will fail."""
    by_subject: defaultdict[tuple[TrustDomain, _Name], list[_Candidate]] = defaultdict(list)
    for candidate in trusted:
        by_subject[candidate.trust_domain, candidate.traits.subject].append(candidate)
    for (trust_domain, _), same in by_subject.items():
        first = same[0]
        if any(_alike(first.traits, each.traits) and first.traits.spki != each.traits.spki for each in same[1:]):
            yield (
                f"authorities of trust_domain={trust_domain} share the subject {_subject_text(first.certificate)!r} "
                f"and have no subject key identifiers that differ: chains to all but one of them will fail"
            )


def _alike(one: _Traits, other: _Traits) -> bool:
    if one.spki == other.spki:
        return True
    apart = one.key_id is not None and other.key_id is not None and one.key_id != other.key_id
    return one.subject == other.subject and not apart


def _intermediates(own: X509SVID) -> list[_Candidate]:
    """The signers our own SVID comes with: nobody else may look like them either."""
    return [
        _Candidate(_OWN, own.id.trust_domain, certificate, traits)
        for certificate in own.certificates[1:]
        if not isinstance(traits := _traits(certificate), str)
    ]


@lru_cache(maxsize=4096)
def _traits(certificate: x509.Certificate) -> _Traits | str:
    """Read what OpenSSL finds an issuer by, or say why that cannot be read."""
    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        try:
            key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:
            key_id = None
        return _Traits(_canonical(certificate.subject), spki, key_id)
    except Exception as error:  # noqa: BLE001 - a foreign certificate; parsers raise more than they say
        return f"it cannot be read ({type(error).__name__})"


def _canonical(name: x509.Name) -> _Name:
    """Return a name so that two are equal when OpenSSL takes them for equal: whatever case, spaces and encoding."""
    return tuple(
        frozenset(
            (
                each.oid.dotted_string,
                each.value if isinstance(each.value, bytes) else " ".join(each.value.lower().split()),
            )
            for each in rdn
        )
        for rdn in name.rdns
    )


def _self_signed(candidate: _Candidate) -> bool:
    """Whether the holder of the certificate's key signed it: a look-alike with a stolen public key cannot show that."""
    try:
        candidate.certificate.verify_directly_issued_by(candidate.certificate)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


def _set_aside(trust_domain: TrustDomain, certificate: x509.Certificate, why: str) -> SetAside:
    return SetAside(trust_domain, why, _subject_text(certificate), certificate.fingerprint(SHA256()).hex())


def _subject_text(certificate: x509.Certificate) -> str:
    try:
        return certificate.subject.rfc4514_string()[:128]
    except ValueError:
        return "unreadable"
