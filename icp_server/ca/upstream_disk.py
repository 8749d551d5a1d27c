"""UpstreamAuthority "disk": a CA in files signs our X.509 authorities; the files are read again when they change."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.ca.authority import SigningAuthority, subordinate
from icp_server.ca.csr import prove
from icp_server.ca.keys import PrivateKey
from icp_server.ca.upstream import MintedCA, UpstreamError
from icp_server.ca.upstream_chain import (
    CheckedChain,
    check_chain,
    issued_by,
    parse_certificates,
    subject_key_id,
    to_der,
)
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.svid_template import CATemplate, leaf_validity, new_serial_number
from icp_server.domain.upstream_settings import DiskUpstream
from icp_server.ports import Clock

logger = logging.getLogger(__name__)

_MAXIMUM = 1024 * 1024
_EXPLICIT_KINDS = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True, slots=True)
class _Files:
    """What was in the files, checked, and when they were as they are."""

    authority: SigningAuthority
    chain: CheckedChain
    bundle: PublishedBundle
    versions: tuple[object, ...] = field(repr=False)


class UpstreamDisk:
    """Implements `UpstreamAuthority` over files."""

    def __init__(self, settings: DiskUpstream, trust_domain: TrustDomain, clock: Clock) -> None:
        self._settings = settings
        self._trust_domain = trust_domain
        self._clock = clock
        self._files: _Files | None = None

    async def mint(self, csr: bytes, ttl: timedelta) -> MintedCA:
        """See `UpstreamAuthority`."""
        return await asyncio.to_thread(self._mint, csr, ttl)

    async def publish(
        self, kind: AuthorityKind, key_id: str, public_key: bytes, not_after: int
    ) -> PublishedBundle | None:
        """See `UpstreamAuthority`. Files publish nothing."""
        return None

    async def bundle(self) -> PublishedBundle | None:
        """See `UpstreamAuthority`."""
        return (await asyncio.to_thread(self._current)).bundle

    def _mint(self, csr: bytes, ttl: timedelta) -> MintedCA:
        files, now = self._current(), self._clock()
        certificate = x509.load_der_x509_csr(csr)
        prove(csr)
        not_before, not_after = leaf_validity(now, ttl, files.chain.not_after)
        template = CATemplate(new_serial_number(), certificate.subject, self._trust_domain, not_before, not_after)
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "it is our own"
        signed = subordinate(template, key, files.authority)
        roots = tuple(map(to_der, files.bundle.bundle.x509_authorities))
        return MintedCA((signed, *map(to_der, files.chain.links)), roots)

    def _current(self) -> _Files:
        """The files as they are. Runs in a thread.

        Raises:
            UpstreamError: one is missing or wrong, or they do not belong together.
        """
        versions = self._versions()
        now = self._clock()
        if self._files is None or self._files.versions != versions or now >= self._files.chain.not_after:
            first = self._files is None
            self._files = self._read(versions, now)
            logger.info("%s the upstream authority's files", "Read" if first else "Read again")
        return self._files

    def _versions(self) -> tuple[object, ...]:
        try:
            found = [path.stat() for path in self._paths()]
        except OSError as error:
            raise UpstreamError(f"cannot read {error.filename}: {error.strerror}") from error
        return tuple((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) for status in found)

    def _paths(self) -> list[Path]:
        settings = self._settings
        return [settings.certificate, settings.key, *([settings.bundle] if settings.bundle else [])]

    def _read(self, versions: tuple[object, ...], now: datetime) -> _Files:
        settings = self._settings
        certificates = parse_certificates(_content(settings.certificate), f"cert_file_path {settings.certificate}")
        if settings.bundle is None:
            if len(certificates) > 1 or not issued_by(certificates[0], certificates[0]):
                raise UpstreamError(
                    f"cert_file_path {settings.certificate} is not one self-signed certificate: "
                    "set bundle_file_path to a file with the roots"
                )
            roots = certificates
        else:
            roots = parse_certificates(_content(settings.bundle), f"bundle_file_path {settings.bundle}")
        try:
            chain = check_chain(certificates, roots, now, below=1)
        except UpstreamError as error:
            raise UpstreamError(f"the upstream CA in {settings.certificate} is of no use: {error}") from error
        bundle = PublishedBundle(TrustBundle(self._trust_domain, roots))
        return _Files(self._authority(certificates[0], chain), chain, bundle, versions)

    def _authority(self, certificate: x509.Certificate, chain: CheckedChain) -> SigningAuthority:
        record = AuthorityRecord(
            subject_key_id(certificate).hex(),
            "A",
            Status.ACTIVE,
            certificate.not_valid_before_utc,
            chain.not_after,
            certificate.public_bytes(Encoding.DER),
        )
        authority = SigningAuthority.of(record, _key(self._settings.key))
        if authority is None:
            raise UpstreamError(
                f"the key in {self._settings.key} is not that of the first certificate in {self._settings.certificate}"
            )
        return authority


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAXIMUM + 1)
    except OSError as error:
        raise UpstreamError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAXIMUM:
        raise UpstreamError(f"{path} is larger than {_MAXIMUM} bytes")
    return data


def _key(path: Path) -> PrivateKey:
    try:
        status = os.stat(path)  # noqa: PTH116  (links are followed: secrets are mounted as such)
    except OSError as error:
        raise UpstreamError(f"cannot read {path}: {error.strerror}") from error
    if status.st_mode & stat.S_IRWXO:
        raise UpstreamError(
            f"the key in {path} is open to everybody (mode {stat.S_IMODE(status.st_mode):04o}): run: chmod o-rwx {path}"
        )
    try:
        key = load_pem_private_key(_content(path), None)
        if isinstance(key, rsa.RSAPrivateKey):
            return key
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _EXPLICIT_KINDS):
            return key
        problem = "it is neither RSA nor of the curves P-256 and P-384"
    except UpstreamError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = type(error).__name__
    return _refuse(path, problem)


def _refuse(path: Path, problem: str) -> NoReturn:
    # Raised here and without a cause: the frames of the parser's error hold the file's content.
    raise UpstreamError(f"{path} holds no private key of use, unencrypted and in PEM ({problem})")
