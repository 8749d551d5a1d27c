"""UpstreamAuthority "disk": a CA in files signs ours; wrong files are named; files that change are read again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from authsec_sdk.spiffe import BundleSet, SpiffeID, TrustDomain
from authsec_sdk.spiffe.verify import verify_chain
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.testing import TestCA
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings
from icp_server.ca.lifecycle import CALifecycle
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.server_identity import ServerIdentity
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.ca.upstream import MintedCA, UpstreamAuthority, UpstreamError
from icp_server.ca.upstream_disk import UpstreamDisk
from icp_server.ca.upstream_follower import UpstreamFollower
from icp_server.ca.upstream_kind import upstream_kinds
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.errors import FailedPrecondition, Internal, InvalidArgument, Unavailable
from icp_server.domain.issued import LeafRequest
from icp_server.domain.key_type import KeyType
from icp_server.domain.upstream_root import root_key_id, upstream_root_id
from icp_server.domain.upstream_settings import DiskUpstream
from icp_server.services.local_authority import LocalAuthorityService
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")


class Files:
    """An upstream CA as an operator puts it on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = DiskUpstream(folder / "ca.pem", folder / "ca.key")

    def write(self, ca: TestCA, *, chain: tuple[x509.Certificate, ...] = (), key: Any = None) -> None:
        certificates = (ca.certificate, *chain)
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
        self.settings.certificate.write_bytes(pem)
        self.write_key(key or ca.private_key)

    def write_key(self, key: Any, encryption: Any = None) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
        self.settings.key.write_bytes(pem)
        self.settings.key.chmod(0o600)

    def write_bundle(self, *roots: x509.Certificate) -> None:
        self.settings = DiskUpstream(self.settings.certificate, self.settings.key, self.folder / "bundle.pem")
        assert self.settings.bundle is not None
        self.settings.bundle.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in roots))

    def upstream(self, clock: Any) -> UpstreamDisk:
        return UpstreamDisk(self.settings, TD, clock)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class Below:
    """A server's CA below an upstream authority."""

    def __init__(self, store: SQLStore, upstream: UpstreamAuthority, clock: Any, **settings: Any) -> None:
        self.store, self.clock = store, clock
        self.signer = SVIDSigner(TD, Lifetimes(), clock)
        self.tokens = SVIDTokenSigner(TD, TokenSettings(), clock)
        kinds = upstream_kinds(store, self.signer, self.tokens, CASettings(**settings), upstream)
        self.rotator = AuthorityRotator(store, MemoryKeyManager(), kinds, clock)
        self.identity = ServerIdentity(store, self.signer, clock)
        self.lifecycle = CALifecycle(self.rotator, self.identity, clock)
        self.follower = UpstreamFollower(store, upstream, self.lifecycle)
        self.service = LocalAuthorityService(store, self.lifecycle, has_upstream=True)

    async def bundle(self) -> Any:
        bundle = await self.store.bundles.get(TD)
        assert bundle is not None
        return bundle

    async def leaf(self, requester: Any) -> tuple[x509.Certificate, ...]:
        (done,) = await self.signer.sign([LeafRequest(requester.csr(), SpiffeID.parse("spiffe://example.org/w"))])
        assert done.value is not None
        return tuple(x509.load_der_x509_certificate(link) for link in done.value.chain)

    async def verified(self, requester: Any) -> tuple[x509.Certificate, ...]:
        chain = await self.leaf(requester)
        bundles = BundleSet.of((await self.bundle()).x509_bundle())
        assert str(verify_chain(chain, bundles, at=self.clock())) == "spiffe://example.org/w"
        return chain


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_what_is_signed_below_verifies_by_upstreams_root(
    files: Files, store: SQLStore, clock: Any, requester: Any, depth: int
) -> None:
    root = TestCA(TD)
    ca, chain = root, ()
    for _ in range(depth):
        chain = (ca.certificate, *chain) if ca is not root else chain
        ca = ca.intermediate()
    files.write(ca, chain=chain)
    if depth:
        files.write_bundle(root.certificate)
    below = Below(store, files.upstream(clock), clock)
    await below.lifecycle.start()
    found = await below.verified(requester)
    assert len(found) == 2 + depth  # leaf, ours, and upstream's without the root
    assert (await below.bundle()).x509_authorities == (root.certificate,)
    assert found[1].subject.rfc4514_string() == "O=SPIFFE,C=US"
    assert root.certificate not in found
    assert (await below.bundle()).jwt_authorities  # ours, though upstream publishes none


@pytest.mark.parametrize("key_type", [KeyType.EC_P384, KeyType.RSA_2048])
async def test_other_kinds_of_keys(
    files: Files, store: SQLStore, clock: Any, requester: Any, key_type: KeyType
) -> None:
    files.write(TestCA(TD, key=rsa.generate_private_key(65537, 2048)))
    below = Below(store, files.upstream(clock), clock, key_type=key_type)
    await below.lifecycle.start()
    await below.verified(requester)


async def test_ours_ends_with_the_first_above_it(files: Files, store: SQLStore, clock: Any, requester: Any) -> None:
    files.write(TestCA(TD, ttl=timedelta(hours=5)))
    below = Below(store, files.upstream(clock), clock, ca_ttl=timedelta(hours=24))
    await below.lifecycle.start()
    record = below.signer.authority.record
    assert record.not_after <= clock() + timedelta(hours=5)
    assert (await below.leaf(requester))[0].not_valid_after_utc <= record.not_after


async def test_files_that_change_are_read_again(files: Files, store: SQLStore, clock: Any, requester: Any) -> None:
    first, second = TestCA(TD), TestCA(TD)
    files.write(first)
    below = Below(store, files.upstream(clock), clock)
    await below.lifecycle.start()
    assert not await below.follower.step()
    files.write(second)
    assert await below.follower.step()  # the new root is published before anything is signed below it
    assert (await below.bundle()).x509_authorities == (first.certificate, second.certificate)
    await below.rotator.prepare(AuthorityKind.X509)
    prepared = below.lifecycle.local_authorities(AuthorityKind.X509).next
    assert prepared is not None
    await below.lifecycle.activate(AuthorityKind.X509, prepared.authority_id)
    chain = await below.verified(requester)
    chain[-1].verify_directly_issued_by(second.certificate)


async def test_half_a_change_is_refused_and_mended(files: Files, store: SQLStore, clock: Any) -> None:
    first, second = TestCA(TD), TestCA(TD)
    files.write(first)
    below = Below(store, files.upstream(clock), clock)
    await below.lifecycle.start()
    files.write_key(second.private_key)
    with pytest.raises(UpstreamError, match="is not that of the first certificate"):
        await below.follower.step()
    with pytest.raises(UpstreamError, match="is not that of the first certificate"):
        await below.lifecycle.prepare(AuthorityKind.X509)
    files.write(second)
    await below.lifecycle.prepare(AuthorityKind.X509)


def _leafs(ca: TestCA) -> Any:
    return ca.credential("/leaf")


async def test_what_is_wrong_is_named(files: Files, clock: Any) -> None:
    root, other = TestCA(TD), TestCA(TD)

    async def refused(words: str) -> None:
        with pytest.raises(UpstreamError, match=words):
            await files.upstream(clock).bundle()

    await refused("cannot read .*ca.pem")
    files.write(root)
    files.settings.key.chmod(0o604)
    await refused("open to everybody .mode 0604.: run: chmod o-rwx")
    files.write_key(ed25519.Ed25519PrivateKey.generate())
    await refused("neither RSA nor of the curves")
    files.write_key(ec.generate_private_key(ec.SECP521R1()))
    await refused("neither RSA nor of the curves")
    files.write_key(root.private_key, BestAvailableEncryption(b"secret"))
    await refused("no private key of use, unencrypted")
    files.settings.key.write_text("nothing")
    await refused("no private key of use")
    files.write(root, key=other.private_key)
    await refused("is not that of the first certificate")
    files.settings.certificate.write_text("nothing")
    await refused("holds no certificates in PEM")
    files.settings.certificate.write_bytes(b"x" * 1024 * 1024 * 2)
    await refused("larger than")
    files.write(root, chain=(other.certificate,))
    await refused("set bundle_file_path")
    files.write(root.intermediate())
    await refused("is not one self-signed certificate: set bundle_file_path")
    files.write_bundle(other.certificate)
    await refused("issued by none of the 1 roots")
    files.write_bundle(root.certificate)
    child = root.intermediate().intermediate()
    files.write(child, chain=(root.certificate,))
    await refused("was not issued by the next one")
    files.write(root.intermediate(path_length=0))
    await refused("path length")
    files.write(root.intermediate(ca=False))
    await refused("may not sign CA certificates")
    leaf = _leafs(root)
    files.write(root.intermediate(signer=leaf))
    await refused("may not sign CA certificates")
    files.write(root.intermediate(key_usage=frozenset({"digital_signature"})))
    await refused("may not sign CA certificates")
    files.write(root.intermediate())
    clock.forward(days=2)
    await refused("expired at")
    clock.forward(days=-4)
    await refused("is not valid before")
    clock.forward(days=2)
    await files.upstream(clock).bundle()


async def test_a_server_does_not_start_without_its_upstream(files: Files, store: SQLStore, clock: Any) -> None:
    below = Below(store, files.upstream(clock), clock)
    with pytest.raises(UpstreamError, match="cannot read"):
        await below.lifecycle.start()
    with pytest.raises(Unavailable):
        _ = below.signer.authority


async def test_a_mounted_secret_behind_links_is_read(files: Files, tmp_path: Path, clock: Any) -> None:
    real = Files(tmp_path / "real")
    real.folder.mkdir()
    ca = TestCA(TD)
    real.write(ca)
    for name in ("ca.pem", "ca.key"):
        (tmp_path / name).symlink_to(real.folder / name)
    published = await files.upstream(clock).bundle()
    assert published is not None
    assert published.bundle.x509_authorities == (ca.certificate,)


class Scripted:
    """An upstream authority that signs with one CA and publishes what a test says."""

    def __init__(self, ca: TestCA, clock: Any) -> None:
        self.ca, self.clock = ca, clock
        self.published: PublishedBundle | None = None
        self.forge: Any = lambda minted: minted
        self.uri = str(TD.id)
        self.mints = 0

    async def mint(self, csr: bytes, ttl: timedelta) -> MintedCA:
        self.mints += 1
        request = x509.load_der_x509_csr(csr)
        uri = x509.UniformResourceIdentifier(self.uri)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        now = self.clock()
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self.ca.certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=10))
            .not_valid_after(now + ttl)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier(bytes.fromhex(root_key_id(self.ca.certificate)), None, None), critical=False
            )
        )
        signed = builder.sign(self.ca.private_key, hashes.SHA256())  # type: ignore[arg-type]
        root = self.ca.certificate.public_bytes(Encoding.DER)
        return self.forge(MintedCA((signed.public_bytes(Encoding.DER),), (root,)))  # type: ignore[no-any-return]

    async def publish(self, *_: object) -> PublishedBundle | None:
        return None

    async def bundle(self) -> PublishedBundle | None:
        return self.published


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (lambda m: MintedCA((), m.roots), "no certificate"),
        (lambda m: MintedCA(m.chain, ()), "issued by none of the 0 roots"),
        (lambda m: MintedCA((b"junk",), m.roots), "cannot be read"),
        (lambda m: MintedCA(m.chain, (b"junk",)), "cannot be read"),
        (lambda m: MintedCA(m.chain * 11, m.roots), "at most 10"),
        (lambda m: MintedCA(m.chain * 2, m.roots), "was not issued by the next one"),
        (lambda m: MintedCA(m.roots, m.roots), "answered with a root"),
        (lambda m: MintedCA(m.chain, (_der(TestCA(TD).certificate),)), "issued by none"),
    ],
    ids=range(8),
)
async def test_an_answer_that_is_of_no_use_is_refused(store: SQLStore, clock: Any, forge: Any, words: str) -> None:
    upstream = Scripted(TestCA(TD), clock)
    upstream.forge = forge
    below = Below(store, upstream, clock)
    with pytest.raises(UpstreamError, match=words):
        await below.lifecycle.start()
    assert await store.bundles.get(TD) is None  # nothing of it was published


async def test_an_answer_for_another_key_or_domain_is_refused(store: SQLStore, clock: Any) -> None:
    ca = TestCA(TD)
    upstream = Scripted(ca, clock)
    upstream.forge = lambda m: MintedCA((_der(ca.intermediate().certificate),), m.roots)
    with pytest.raises(UpstreamError, match="another key than ours"):
        await Below(store, upstream, clock).lifecycle.start()
    foreign = Scripted(ca, clock)
    foreign.uri = "spiffe://other.org"
    with pytest.raises(UpstreamError, match=r"signed for \['spiffe://other.org'\]; this server's trust domain is"):
        await Below(store, foreign, clock).lifecycle.start()


def _tainting(root: TestCA, *others: TestCA) -> PublishedBundle:
    from authsec_sdk.spiffe import TrustBundle
    from authsec_sdk.spire.tainted import TaintedAuthorities

    roots = tuple(ca.certificate for ca in (root, *others))
    return PublishedBundle(TrustBundle(TD, roots), TaintedAuthorities((root.certificate,)))


async def test_a_root_that_upstream_taints_is_left_at_once(store: SQLStore, clock: Any, requester: Any) -> None:
    old, new = TestCA(TD), TestCA(TD)
    upstream = Scripted(old, clock)
    below = Below(store, upstream, clock)
    await below.lifecycle.start()
    before = below.signer.authority.record
    serial = below.identity.holder.x509_context.svid.leaf.serial_number
    upstream.ca, upstream.published = new, _tainting(old, new)
    assert await below.follower.step()
    published = await store.bundles.published(TD)
    assert published is not None
    assert published.tainted.x509_authorities == (old.certificate,)
    after = below.signer.authority.record
    assert after.authority_id != before.authority_id
    assert upstream_root_id(after) == root_key_id(new.certificate)
    assert below.identity.holder.x509_context.svid.leaf.serial_number != serial
    (await below.verified(requester))[-1].verify_directly_issued_by(new.certificate)
    mints = upstream.mints
    assert not await below.follower.step()
    assert upstream.mints == mints


async def test_an_upstream_that_signs_on_with_a_tainted_root_is_not_asked_for_ever(store: SQLStore, clock: Any) -> None:
    root = TestCA(TD)
    upstream = Scripted(root, clock)
    below = Below(store, upstream, clock)
    await below.lifecycle.start()
    upstream.published = _tainting(root)
    for _ in range(5):
        await below.follower.step()
    assert upstream.mints == 2


async def test_upstream_authorities_are_tainted_and_revoked_by_hand(store: SQLStore, clock: Any) -> None:
    old, new = TestCA(TD), TestCA(TD)
    upstream = Scripted(old, clock)
    below = Below(store, upstream, clock)
    await below.lifecycle.start()
    old_id, new_id = root_key_id(old.certificate), root_key_id(new.certificate)
    service = below.service
    for bad, words in (
        ("", "no subject key ID provided"),
        (old_id, "unable to use upstream authority singing current authority"),
        (new_id, "upstream authority didn't sign the old local authority"),
    ):
        with pytest.raises(InvalidArgument, match=f"provided subject key id is not valid: {words}"):
            await service.taint_upstream(bad)
    upstream.ca = new
    prepared = await below.lifecycle.prepare(AuthorityKind.X509)
    with pytest.raises(InvalidArgument, match="only upstream authorities signing an old authority"):
        await service.taint_upstream(new_id)
    await below.lifecycle.activate(AuthorityKind.X509, prepared.authority_id)
    assert service.states(AuthorityKind.X509).active.upstream_id == new_id
    with pytest.raises(Internal, match=r"failed to revoke X\.509 upstream authority: it is not possible to revoke an"):
        await service.revoke_upstream(old_id)
    assert await service.taint_upstream(old_id) == old_id
    with pytest.raises(Internal, match="failed to taint upstream authority: root CA is already tainted"):
        await service.taint_upstream(old_id)
    await service.revoke_upstream(old_id)
    assert (await below.bundle()).x509_authorities == (new.certificate,)
    with pytest.raises(FailedPrecondition, match="can't be tainted if there is an upstream authority"):
        await service.taint(AuthorityKind.X509, prepared.authority_id)
    with pytest.raises(FailedPrecondition, match="can't be revoked if there is an upstream authority"):
        await service.revoke(AuthorityKind.X509, prepared.authority_id)


async def test_a_root_that_names_itself_otherwise_can_be_tainted(store: SQLStore, clock: Any) -> None:
    """Key identifiers are not always SHA-1 of the key: the operator names the root by what the chain says."""
    old, new = TestCA(TD, subject_key_id=b"\x01" * 20), TestCA(TD)
    upstream = Scripted(old, clock)
    below = Below(store, upstream, clock)
    await below.lifecycle.start()
    upstream.ca = new
    prepared = await below.lifecycle.prepare(AuthorityKind.X509)
    await below.lifecycle.activate(AuthorityKind.X509, prepared.authority_id)
    await below.service.taint_upstream("01" * 20)
    await below.service.revoke_upstream("01" * 20)
    assert (await below.bundle()).x509_authorities == (new.certificate,)


def test_the_clock_of_these_tests_is_the_real_one_in_whole_seconds(clock: Any) -> None:
    assert abs(clock() - datetime.now(UTC)) < timedelta(minutes=5)
