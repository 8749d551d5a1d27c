"""`WorkloadSVID` of authsec-sdk 4.x: an SVID as PEM text, written to the folder that its maker names."""

import threading
from pathlib import Path
from typing import Any, NoReturn

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.compat.key_files import KeyFiles
from authsec_sdk.compat.pem import bundle_pem, certificate_pem, key_pem
from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context

__all__ = ["WorkloadSVID"]


class WorkloadSVID:
    """An SVID given as PEM, and the files of it in `cert_dir`, which are there because a folder is named.

    Unlike 4.x: every rule of the X509-SVID standard is checked, contexts follow `refresh`, trust the one trust domain
    alone and accept its members alone, the files are of mode 0600, and no representation shows the key.
    `close` removes the files; at the interpreter's end they go as well.

    Raises:
        InvalidX509SVIDError, InvalidSpiffeIDError, InvalidBundleError: the texts are no SVID of `spiffe_id`.
        ConfigurationError: others may write to `cert_dir`.
    """

    def __init__(
        self, spiffe_id: str, certificate: str, private_key: str, trust_bundle: str, cert_dir: str | Path
    ) -> None:
        self._id = SpiffeID.parse(spiffe_id)
        self._holder = X509ContextHolder()
        self._changing = threading.Lock()
        try:
            context = self._read(certificate, private_key, trust_bundle)
        finally:
            del private_key  # tracebacks show locals
        self.cert_dir = Path(cert_dir)
        self._files = KeyFiles(self.cert_dir)
        self._publish(context)

    @property
    def spiffe_id(self) -> str:
        """Whose SVID it is."""
        return str(self._id)

    @property
    def certificate(self) -> str:
        """The chain as PEM, leaf first."""
        return certificate_pem(self._holder.x509_context.svid)

    @property
    def trust_bundle(self) -> str:
        """The authorities of the trust domain as PEM."""
        return bundle_pem(self._holder.x509_context)

    @property
    def cert_file_path(self) -> Path:
        """Where the chain is."""
        return self._files.certificate

    @property
    def key_file_path(self) -> Path:
        """Where the private key is."""
        return self._files.key

    @property
    def ca_file_path(self) -> Path:
        """Where the authorities are."""
        return self._files.authorities

    def create_ssl_context_for_client(self) -> SpiffeSSLContext:
        """Return a context that presents the newest SVID and accepts members of the trust domain."""
        return mtls_client_context(self._holder, authorize_member_of(self._id.trust_domain))

    def create_ssl_context_for_server(self) -> SpiffeSSLContext:
        """Return a context that demands a client's SVID, and accepts members of the trust domain."""
        return mtls_server_context(self._holder, authorize_member_of(self._id.trust_domain))

    def refresh(self, certificate: str, private_key: str, trust_bundle: str) -> None:
        """Take a newer SVID of the same ID: files and contexts made before follow.

        Raises:
            InvalidX509SVIDError, InvalidBundleError: the texts are no SVID of this ID; the last one is kept.
        """
        try:
            context = self._read(certificate, private_key, trust_bundle)
        finally:
            del private_key
        self._publish(context)

    def close(self) -> None:
        """Remove the files, and let contexts accept no more connections. Again, a no-op."""
        self._files.remove()
        self._holder.close()

    def __repr__(self) -> str:
        return f"<WorkloadSVID {self._id} in {self.cert_dir}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a WorkloadSVID holds a private key and is not pickled")

    def __getattr__(self, name: str) -> Any:
        if name == "private_key":  # here, so that neither `dir` nor a debugger's view of the object shows it
            return key_pem(self._holder.x509_context.svid)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _read(self, certificate: str, private_key: str, trust_bundle: str) -> X509Context:
        try:
            svid = X509SVID.parse_pem(certificate.encode(), private_key.encode())
        finally:
            del private_key
        if svid.id != self._id:
            raise InvalidX509SVIDError(f"the SVID said to be of {self._id} is of {svid.id}")
        bundle = X509Bundle.parse_pem(self._id.trust_domain, trust_bundle.encode())
        return X509Context((svid,), BundleSet.of(bundle))

    def _publish(self, context: X509Context) -> None:
        with self._changing:
            self._holder.publish(context)
            self._files.write(context)
