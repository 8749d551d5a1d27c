"""Asks this node's kubelet for its pods: securely with a token, a certificate or neither, or on the read-only port."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsec_sdk.errors import ConfigurationError, UnavailableError
from icp_agent.files import read_bounded
from icp_agent.workloadattestors.pods import Pod, parse_pods
from icp_common.http_exchange import Request, exchange

SERVICE_ACCOUNT: Final = Path("/run/secrets/kubernetes.io/serviceaccount")
SECURE_PORT: Final = 10250
MAXIMUM_ANSWER: Final = 64 * 1024 * 1024
_MAXIMUM_TOKEN: Final = 32 * 1024


class KubeletError(UnavailableError):
    """The kubelet cannot be reached, is not trusted, or does not let us ask."""


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """Where the kubelet is and how to speak to it. With `certificate` no token is sent, nor if `anonymous`.

    `host` is what to connect to, `server_name` what its certificate must say. `secure` False is the read-only port,
    which anybody on the node may answer that has the port first. `verify` False believes every certificate.
    """

    host: str = "127.0.0.1"
    port: int = SECURE_PORT
    server_name: str = "127.0.0.1"
    secure: bool = True
    verify: bool = True
    anonymous: bool = False
    ca: Path = SERVICE_ACCOUNT / "ca.crt"
    token: Path = SERVICE_ACCOUNT / "token"
    certificate: Path | None = None
    private_key: Path | None = None
    reload_seconds: float = 60.0


class Kubelet:
    """The kubelet of this node. Belongs to one event loop; many callers at once share one question."""

    def __init__(self, settings: KubeletSettings, *, shared_seconds: float) -> None:
        self._settings = settings
        self._shared_seconds = shared_seconds
        self._asking = asyncio.Lock()
        self._pods: tuple[Pod, ...] = ()
        self._asked_at = -float("inf")
        self._context: ssl.SSLContext | None = None
        self._loaded_at = -float("inf")

    async def pods(self) -> tuple[Pod, ...]:
        """The pods of the node as of now, or of `shared_seconds` ago.

        Raises:
            KubeletError, HTTPExchangeError, PodListError: the kubelet cannot be asked, or sends no pods.
            ConfigurationError: a file is missing or broken.
        """
        async with self._asking:
            started = time.monotonic()
            if started - self._asked_at >= self._shared_seconds:
                body = await self._ask()
                self._pods = await asyncio.to_thread(parse_pods, body)
                self._asked_at = started
            return self._pods

    async def _ask(self) -> bytes:
        settings = self._settings
        context, headers = await asyncio.to_thread(self._credentials)
        try:
            reader, writer = await asyncio.open_connection(
                settings.host, settings.port, ssl=context, server_hostname=settings.server_name if context else None
            )
        except OSError as error:  # ssl.SSLError is one
            raise KubeletError(
                f"the kubelet at {settings.host}:{settings.port} cannot be reached or trusted: {error}"
            ) from error
        request = Request("GET", f"{settings.server_name}:{settings.port}", "/pods", headers)
        answer = await exchange(reader, writer, request, limit=MAXIMUM_ANSWER)
        if answer.status != 200:
            raise KubeletError(
                f"the kubelet answers {answer.status}"
                + (": the agent needs the right nodes/proxy (or nodes/pods)" if answer.status in (401, 403) else "")
            )
        return answer.body

    def _credentials(self) -> tuple[ssl.SSLContext | None, dict[str, str]]:
        settings = self._settings
        if not settings.secure:
            return None, {}
        now = time.monotonic()
        if self._context is None or now - self._loaded_at >= settings.reload_seconds:
            self._context, self._loaded_at = _context(settings), now
        if settings.certificate is not None or settings.anonymous:
            return self._context, {}
        return self._context, {"Authorization": f"Bearer {_token(settings.token)}"}


def _context(settings: KubeletSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.verify:
            context.load_verify_locations(settings.ca)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.certificate is not None and settings.private_key is not None:
            context.load_cert_chain(settings.certificate, settings.private_key, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the kubelet's CA or our certificate for it cannot be loaded: {error}") from error
    return context


def _token(path: Path) -> str:
    try:
        token = read_bounded(path, _MAXIMUM_TOKEN, "token for the kubelet").decode("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        token = ""
    if not token:
        raise ConfigurationError(f"there is no token for the kubelet in {path}")
    return token
