"""Where a cluster's API server is, whom to believe there and who we are: from a kubeconfig, or from inside of a pod.

Read anew for each call, as tokens in files are replaced every hour. Of a kubeconfig the current context counts.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.tls.keyload import load_identity

IN_CLUSTER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAXIMUM_FILE_BYTES: Final = 4 * 1024 * 1024
_REFUSED: Final = ("exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups")


@dataclass(frozen=True, slots=True)
class APIServer:
    """One API server, and how to call it."""

    host: str
    port: int
    prefix: str
    context: ssl.SSLContext
    server_name: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class _Client:
    """A client certificate with its key, as `load_identity` takes it."""

    id: str
    certificates: tuple[x509.Certificate, ...]
    private_key: Any = field(repr=False)

    @property
    def not_after(self) -> datetime:
        """When the leaf expires."""
        return self.certificates[0].not_valid_after_utc


def api_server(kubeconfig: Path | None, environ: Mapping[str, str] | None = None) -> APIServer:
    """Read how to reach the cluster; without a kubeconfig, the one this process runs in. Reads files.

    Raises:
        ConfigurationError: something is missing, wrong, or of a kind that is not supported, which is named.
    """
    if kubeconfig is None:
        return _in_cluster(os.environ if environ is None else environ)
    document = _document(kubeconfig)
    context = _named(document, "contexts", "context", document.get("current-context"))
    cluster = _named(document, "clusters", "cluster", context.get("cluster"))
    user = _named(document, "users", "user", context.get("user")) if context.get("user") else {}
    for key in _REFUSED:
        if user.get(key):
            raise ConfigurationError(f"{kubeconfig}: {key!r} of users is not supported: use a token or a certificate")
    if cluster.get("proxy-url"):
        raise ConfigurationError(f"{kubeconfig}: 'proxy-url' of clusters is not supported")
    folder = kubeconfig.parent
    tls = _tls(
        _octets(cluster, "certificate-authority", folder), insecure=cluster.get("insecure-skip-tls-verify") is True
    )
    certificate, private_key = _octets(user, "client-certificate", folder), _octets(user, "client-key", folder)
    if certificate or private_key:
        _present(tls, certificate, private_key)
    token = _text(user, "token")
    if file := _text(user, "tokenFile"):
        token = _read(folder / file).decode("utf-8", "replace").strip()
    return _located(_text(cluster, "server"), tls, token, _text(cluster, "tls-server-name"))


def _in_cluster(environ: Mapping[str, str]) -> APIServer:
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ConfigurationError(
            "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be "
            "defined: outside of a cluster set kube_config_file"
        )
    literal = f"[{host}]" if ":" in host else host
    token = _read(IN_CLUSTER / "token").decode("utf-8", "replace").strip()
    return _located(f"https://{literal}:{port}", _tls(_read(IN_CLUSTER / "ca.crt"), insecure=False), token, "")


def _located(url: str, context: ssl.SSLContext, token: str, server_name: str) -> APIServer:
    split = urlsplit(url if "://" in url else f"https://{url}")
    try:
        port = split.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is no URL of an API server") from error
    if split.scheme != "https" or not split.hostname or split.username or split.query:
        raise ConfigurationError(f"{url!r} is no https URL of an API server: tokens are sent over https alone")
    host = split.hostname
    return APIServer(host, port or 443, split.path.rstrip("/"), context, server_name or host, token)


def _tls(authorities: bytes, *, insecure: bool) -> ssl.SSLContext:
    if insecure:
        raise ConfigurationError(
            "'insecure-skip-tls-verify' is not supported: whoever answers would decide which nodes get in"
        )
    try:
        return ssl.create_default_context(cadata=authorities.decode("ascii") if authorities else None)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(f"the cluster's certificate authority is none: {error}") from error


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    try:
        chain = tuple(x509.load_pem_x509_certificates(certificate))
        private_key = load_pem_private_key(key, None)
    except (ValueError, TypeError):
        chain, private_key = (), None
    if private_key is None:
        raise ConfigurationError("the client certificate or key of the kubeconfig's user cannot be read")
    load_identity(context, _Client("the kubeconfig's user", chain, private_key))


def _document(path: Path) -> Mapping[str, Any]:
    data = _read(path)
    try:
        document = json.loads(data)
    except ValueError:
        document = _yaml(path, data)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} is no kubeconfig")
    return document


def _yaml(path: Path, data: bytes) -> object:
    try:
        import yaml
    except ImportError as error:  # the extra `server` brings it
        raise ConfigurationError(f"{path} is YAML: pip install pyyaml, or write it as JSON") from error
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no kubeconfig: {type(error).__name__}") from None


def _named(document: Mapping[str, Any], several: str, one: str, name: object) -> Mapping[str, Any]:
    entries = document.get(several)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(one), dict):
            found: Mapping[str, Any] = entry[one]
            return found
    raise ConfigurationError(f"the kubeconfig has no {one} {name!r}")


def _octets(values: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """Read `key-data` in base64, or the file that `key` names, relative to the kubeconfig."""
    if data := _text(values, f"{key}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            raise ConfigurationError(f"'{key}-data' of the kubeconfig is no base64") from None
    file = _text(values, key)
    return _read(folder / file) if file else b""


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{key!r} of the kubeconfig must be a string")
    return value or ""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"unable to read {str(path)!r}: {error.strerror}") from error
    if len(data) > MAXIMUM_FILE_BYTES:
        raise ConfigurationError(f"{str(path)!r} is larger than {MAXIMUM_FILE_BYTES} bytes")
    return data
