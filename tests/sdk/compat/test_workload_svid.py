"""`WorkloadSVID` of authsec-sdk 4.x: PEM in, files where its maker says, and contexts that follow `refresh`."""

import pickle
import ssl
from pathlib import Path

import pytest

from authsec_sdk.errors import ConfigurationError, InvalidBundleError, InvalidX509SVIDError, SourceClosedError
from authsec_sdk.spiffe import WorkloadSVID  # type: ignore[attr-defined]  # found when it is asked for
from authsec_sdk.testing import TestCA, shake

ID = "spiffe://example.org/workload"


def pem(ca: TestCA, path: str = "/workload") -> tuple[str, str, str]:
    credential = ca.credential(path)
    return credential.chain_pem().decode(), credential.key_pem().decode(), ca.bundle().to_pem().decode()


def presented(client: ssl.SSLContext, server: ssl.SSLContext) -> bytes:
    """Shake hands and return the certificate which the server presented."""
    leaf: bytes = shake(server, client).check().client.getpeercert(True)
    return leaf


def test_it_is_what_it_was_made_of(tmp_path: Path, spiffe_ca: TestCA) -> None:
    certificate, key, bundle = pem(spiffe_ca)
    svid = WorkloadSVID(ID, certificate, key, bundle, tmp_path / "certs")
    assert (svid.spiffe_id, svid.certificate, svid.private_key) == (ID, certificate, key)
    assert svid.trust_bundle == bundle
    assert svid.cert_file_path.read_text() == certificate
    assert svid.key_file_path.read_text() == key
    assert svid.ca_file_path.read_text() == bundle
    assert svid.key_file_path.stat().st_mode & 0o777 == 0o600
    shown = repr(svid) + repr(vars(svid))
    assert "PRIVATE" not in shown
    assert "private_key" not in dir(svid)
    with pytest.raises(TypeError):
        pickle.dumps(svid)
    svid.close()
    assert not (tmp_path / "certs").exists()
    with pytest.raises(SourceClosedError):
        svid.certificate  # noqa: B018


def test_contexts_follow_refresh(tmp_path: Path, spiffe_ca: TestCA) -> None:
    svid = WorkloadSVID(ID, *pem(spiffe_ca), str(tmp_path / "certs"))
    client, server = svid.create_ssl_context_for_client(), svid.create_ssl_context_for_server()
    before = presented(client, server)
    spiffe_ca.rotate()
    spiffe_ca.remove_old_roots()
    new = pem(spiffe_ca)
    svid.refresh(*new)
    assert presented(client, server) != before
    assert svid.cert_file_path.read_text() == new[0]
    svid.close()


def test_what_is_wrong_is_refused_and_the_last_one_kept(tmp_path: Path, spiffe_ca: TestCA) -> None:
    certificate, key, bundle = pem(spiffe_ca)
    svid = WorkloadSVID(ID, certificate, key, bundle, tmp_path / "certs")
    for wrong, error in (
        (pem(spiffe_ca, "/another"), InvalidX509SVIDError),
        ((certificate, pem(spiffe_ca)[1], bundle), InvalidX509SVIDError),
        ((certificate, key, "nothing"), InvalidBundleError),
    ):
        with pytest.raises(error):
            svid.refresh(*wrong)
        with pytest.raises(error):
            WorkloadSVID(ID, *wrong, tmp_path / "others")
    assert svid.cert_file_path.read_text() == certificate
    assert not (tmp_path / "others").exists(), "no key is written before everything is right"
    svid.close()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        WorkloadSVID(ID, certificate, key, bundle, tmp_path / "open")
