"""TLS to PostgreSQL: what each sslmode verifies, client certificates, and files that change under a running server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from icp_server.config.connection_string import parse_connection_string
from icp_server.domain.errors import StoreError, Unavailable
from icp_server.domain.postgres_settings import PostgresPool, PostgresSettings, PostgresTLS, TLSMode
from icp_server.store.database import Database
from tests.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


@dataclass
class Pair:
    """A certificate with its key, as PEM."""

    certificate: bytes
    key: bytes

    def written(self, folder: Path, name: str) -> tuple[Path, Path]:
        (folder / f"{name}.crt").write_bytes(self.certificate)
        (folder / f"{name}.key").write_bytes(self.key)
        return folder / f"{name}.crt", folder / f"{name}.key"


class Root:
    """An authority of a database's operators."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database root")])
        builder = self._builder(self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - DAY).not_valid_after(now + DAY)

    def issue(self, common_name: str, *names: x509.GeneralName) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(subject, key)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM), pem)


@pytest.fixture
def root() -> Root:
    return Root()


@pytest.fixture
def settings(lonely_cluster: Cluster, root: Root, tmp_path: Path) -> PostgresSettings:
    """How to reach a database over mutual TLS, as it should be."""
    name = lonely_cluster.new_database()
    lonely_cluster.stop()
    server = root.issue("db", x509.IPAddress(IPv4Address("127.0.0.1")))
    lonely_cluster.serve_tls(server.certificate, server.key, root.pem)
    lonely_cluster.start()
    certificate, key = root.issue("spire").written(tmp_path, "client")
    (tmp_path / "root.crt").write_bytes(root.pem)
    plain = parse_connection_string(lonely_cluster.connection_string(name))
    return replace(plain, tls=PostgresTLS(TLSMode.VERIFY_FULL, tmp_path / "root.crt", certificate, key))


async def version(settings: PostgresSettings) -> str:
    async with await Database.connect(settings) as database, database.read() as connection:
        query = "SELECT version || ' ' || client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return str((await connection.execute(text(query))).scalar_one())


async def test_what_is_right_gets_in_and_what_is_not_does_not(settings: PostgresSettings, tmp_path: Path) -> None:
    assert await version(settings) == "TLSv1.3 /CN=spire"
    (tmp_path / "other.crt").write_bytes(Root().pem)
    strangers = Root().issue("spire").written(tmp_path, "stranger")
    tls = settings.tls
    for changed, words in (
        (replace(tls, root_ca=tmp_path / "other.crt"), "CERTIFICATE_VERIFY_FAILED"),
        (replace(tls, mode=TLSMode.VERIFY_CA, root_ca=tmp_path / "other.crt"), "CERTIFICATE_VERIFY_FAILED"),
        (replace(tls, mode=TLSMode.REQUIRE, root_ca=tmp_path / "other.crt"), "CERTIFICATE_VERIFY_FAILED"),
        (replace(tls, certificate=None, key=None), "certificate"),
        (replace(tls, certificate=strangers[0], key=strangers[1]), "cannot connect"),
        (replace(tls, mode=TLSMode.DISABLE), "no encryption"),
        (replace(tls, key=strangers[1]), "KEY_VALUES_MISMATCH"),
    ):
        with pytest.raises(StoreError, match=words):
            await version(replace(settings, tls=changed))
    with pytest.raises(StoreError, match="stranger"):  # the certificate names another role
        await version(replace(settings, user="stranger"))
    # Without a root nobody is verified, and the connection is still encrypted.
    assert await version(replace(settings, tls=replace(tls, mode=TLSMode.REQUIRE, root_ca=None))) == "TLSv1.3 /CN=spire"


async def test_the_name_counts_with_verify_full_alone(settings: PostgresSettings) -> None:
    elsewhere = replace(settings, hosts=tuple(("localhost", port) for _, port in settings.hosts))
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        await version(elsewhere)
    assert await version(replace(elsewhere, tls=replace(settings.tls, mode=TLSMode.VERIFY_CA)))


async def test_a_renewed_certificate_needs_no_restart(settings: PostgresSettings, root: Root, tmp_path: Path) -> None:
    """Each connection reads the files anew: here, after the ones before were spoilt and then renewed."""
    lived = replace(settings, pool=PostgresPool(max_open=4, max_idle=0))
    async with await Database.connect(lived) as database:
        before = (tmp_path / "client.crt").read_bytes()
        (tmp_path / "client.crt").write_bytes(b"spoilt")
        await database._engine.dispose()  # as when connections have lived their time
        with pytest.raises(Unavailable):
            async with database.read():
                pass
        assert root.issue("spire").written(tmp_path, "client")[0].read_bytes() != before
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
