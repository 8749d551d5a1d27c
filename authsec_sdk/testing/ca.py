"""A certificate authority for tests: right SVIDs by default, and every wrong one on request."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Self, TypedDict, Unpack

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from authsec_sdk.spiffe import X509SVID, SpiffeID, TrustDomain, X509Bundle
from authsec_sdk.testing.certificates import (
    LEAF_USAGE,
    SERVER_AND_CLIENT,
    SIGNER_USAGE,
    CertificatePlan,
    Credential,
    build_certificate,
    name,
    new_key,
)
from authsec_sdk.testing.tokens import TestTokenCA, resolve_id

__all__ = ["Credential", "LeafOptions", "TestCA"]

BACKDATE = timedelta(seconds=10)


class LeafOptions(TypedDict, total=False):
    """What `svid` and `credential` take beside the ID; the first few are everyday, the rest make wrong certificates.

    `ttl` counts from now and `not_after` wins over it. `ca`, `key_usage` and `extended_key_usage` are left out of the
    certificate when `None`. `key` is what the certificate certifies, `private_key` what is handed out with it: giving
    only the second makes a pair that does not match. `uris` replaces the SPIFFE ID: none, two, or a malformed one.
    """

    ttl: timedelta
    not_before: datetime
    not_after: datetime
    dns_names: Sequence[str]
    subject: x509.Name
    key: CertificateIssuerPrivateKeyTypes
    private_key: CertificateIssuerPrivateKeyTypes
    uris: Sequence[str]
    ca: bool | None
    path_length: int | None
    key_usage: frozenset[str] | None
    extended_key_usage: Sequence[x509.ObjectIdentifier] | None
    with_subject_key_id: bool
    with_authority_key_id: bool
    serial_number: int
    extensions: Mapping[x509.ExtensionType, bool]


class TestCA:
    """The authority of one trust domain: issues SVIDs, rotates its root, forgets old roots, has intermediates.

    Each root has a name and key of its own; `subject`, `key` and `subject_key_id` make look-alikes of another one.
    Nothing stops it from signing IDs of other trust domains: forgeries are what it is for. Not thread-safe.
    """

    __test__ = False  # pytest would take the name for a test class

    def __init__(
        self,
        trust_domain: TrustDomain | str = "example.org",
        *,
        ttl: timedelta = timedelta(days=1),
        subject: x509.Name | None = None,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        subject_key_id: bytes | None = None,
        with_subject_key_id: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.trust_domain = trust_domain if isinstance(trust_domain, TrustDomain) else TrustDomain.parse(trust_domain)
        self._ttl = ttl
        self._clock = clock
        self._parent: TestCA | None = None
        self._tokens: TestTokenCA | None = None
        self._chain: tuple[x509.Certificate, ...] = ()
        self._key = key or new_key()
        self._certificate = self._new_root(subject, subject_key_id, with_subject_key_id=with_subject_key_id)
        self._authorities: tuple[x509.Certificate, ...] = (self._certificate,)

    def __repr__(self) -> str:
        """Show the trust domain and how many roots the bundle holds."""
        return f"<TestCA {self.trust_domain} roots={len(self.bundle().authorities)}>"

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate that signs now: the newest root, or the intermediate."""
        return self._certificate

    @property
    def private_key(self) -> CertificateIssuerPrivateKeyTypes:
        """The key that signs now."""
        return self._key

    @property
    def tokens(self) -> TestTokenCA:
        """The token side of the trust domain, with keys of its own: `ca.tokens.jwt_svid("/workload", ["payments"])`."""
        if self._parent is not None:
            return self._parent.tokens
        if self._tokens is None:
            self._tokens = TestTokenCA(self.trust_domain, clock=self._clock)
        return self._tokens

    def bundle(self) -> X509Bundle:
        """Return the bundle of the trust domain: every root not yet forgotten, the newest first."""
        if self._parent is not None:
            return self._parent.bundle()
        return X509Bundle(trust_domain=self.trust_domain, authorities=self._authorities)

    def svid(
        self, path_or_id: str | SpiffeID = "/workload", *, hint: str = "", **options: Unpack[LeafOptions]
    ) -> X509SVID:
        """Issue an SVID for a path of this trust domain or any SPIFFE ID at all.

        With options that break a rule of the standard use `credential`: no `X509SVID` holds a wrong certificate.

        Raises:
            InvalidX509SVIDError: the options ask for what the X509-SVID standard forbids.
        """
        credential = self.credential(path_or_id, **options)
        return X509SVID(credential.certificates, credential.private_key, hint)  # type: ignore[arg-type]  # it checks

    def credential(self, path_or_id: str | SpiffeID = "/workload", **options: Unpack[LeafOptions]) -> Credential:
        """Issue a certificate chain and key, as wrong as the options ask for."""
        now = self._clock()
        not_before = options.get("not_before", now - BACKDATE)
        key = options.get("key") or new_key()
        spiffe_id = self.id(path_or_id)
        plan = CertificatePlan(
            subject=options.get("subject", name("", organization="SPIRE")),
            not_before=not_before,
            not_after=options.get("not_after", now + options.get("ttl", timedelta(hours=1))),
            uris=options.get("uris", (str(spiffe_id),)),
            dns_names=options.get("dns_names", ()),
            ca=options.get("ca", False),
            path_length=options.get("path_length"),
            key_usage=options.get("key_usage", LEAF_USAGE),
            extended_key_usage=options.get("extended_key_usage", SERVER_AND_CLIENT),
            with_subject_key_id=options.get("with_subject_key_id", True),
            with_authority_key_id=options.get("with_authority_key_id", True),
            serial_number=options.get("serial_number"),
            extensions=options.get("extensions", {}),
        )
        leaf = build_certificate(plan, key, self._key, self._certificate)
        return Credential((leaf, *self._chain), options.get("private_key", key))

    def id(self, path_or_id: str | SpiffeID) -> SpiffeID:
        """Read `/path` as a path of this trust domain, anything else as a whole SPIFFE ID."""
        return resolve_id(self.trust_domain, path_or_id)

    def rotate(self) -> None:
        """Sign with a new root from now on; the old roots stay in the bundle until `remove_old_roots`."""
        if self._parent is not None:
            raise TypeError("an intermediate does not rotate; rotate its root and make a new intermediate")
        self._key = new_key()
        self._certificate = self._new_root(None, None)
        self._authorities = (self._certificate, *self._authorities)

    def remove_old_roots(self) -> None:
        """Leave only the root that signs now in the bundle: what older ones signed is no longer to be trusted."""
        if self._parent is not None:
            raise TypeError("an intermediate has no bundle of its own; remove the old roots of its root")
        self._authorities = (self._certificate,)

    def intermediate(
        self,
        *,
        subject: x509.Name | None = None,
        uris: Sequence[str] | None = None,
        ca: bool | None = True,
        path_length: int | None = None,
        key_usage: frozenset[str] | None = SIGNER_USAGE,
        extensions: Mapping[x509.ExtensionType, bool] | None = None,
        signer: Credential | None = None,
    ) -> Self:
        """Return a CA whose certificate this one signed and whose SVIDs carry that certificate along.

        `signer` makes an "intermediate" of a credential that may not sign at all: the leaf-as-CA attack.
        """
        child = type(self)(self.trust_domain, ttl=self._ttl, clock=self._clock)
        child._parent = self
        if signer is not None:
            child._key, child._certificate, child._chain = signer.private_key, signer.leaf, signer.certificates
            return child
        now = self._clock()
        plan = CertificatePlan(
            subject=subject
            or name(f"{self.trust_domain} intermediate", serial_number=str(x509.random_serial_number())),
            not_before=now - BACKDATE,
            not_after=now + self._ttl,
            uris=(str(self.trust_domain.id),) if uris is None else uris,
            ca=ca,
            path_length=path_length,
            key_usage=key_usage,
            extended_key_usage=None,
            extensions=extensions or {},
        )
        child._certificate = build_certificate(plan, child._key, self._key, self._certificate)
        child._chain = (child._certificate, *self._chain)
        return child

    def _new_root(
        self, subject: x509.Name | None, subject_key_id: bytes | None, *, with_subject_key_id: bool = True
    ) -> x509.Certificate:
        now = self._clock()
        plan = CertificatePlan(
            subject=subject or _unique_name(f"{self.trust_domain} root"),
            not_before=now - BACKDATE,
            not_after=now + self._ttl,
            uris=(str(self.trust_domain.id),),
            ca=True,
            key_usage=SIGNER_USAGE,
            extended_key_usage=None,
            subject_key_id=subject_key_id,
            with_subject_key_id=with_subject_key_id,
        )
        return build_certificate(plan, self._key, self._key)


def _unique_name(common_name: str) -> x509.Name:
    """Name each signer apart: OpenSSL looks issuers up by name and does not try the second of that name."""
    return name(common_name, serial_number=str(x509.random_serial_number()))
