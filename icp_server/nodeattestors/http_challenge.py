"""Attestation by name: the server calls the node back over HTTP, and finds its nonce there."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import http_challenge as wire
from authsec_sdk.spire.attestation.messages import NONCE_BYTES, AttestationMessageError
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.errors import InvalidArgument, PermissionDenied
from icp_server.nodeattestors.agent_path import agent_id_of_path
from icp_server.nodeattestors.callback import CallbackError, Network, Reach, fetch
from icp_server.ports import AttestationRequest, Clock, MakeNodeAttestor, NodeAttestation, NodeAttestor, Store

logger = logging.getLogger(__name__)

NAME: Final = wire.NAME
PRIVILEGED_PORTS: Final = 1024
MAXIMUM_HOSTNAME: Final = 253


@dataclass(frozen=True, slots=True)
class HTTPChallengeSettings:
    """What `plugin_data` says; called, it makes the attestor. `patterns` empty: any name; `required_port` 0: any."""

    patterns: tuple[re.Pattern[str], ...] = ()
    required_port: int = 0
    allow_non_root_ports: bool = True
    tofu: bool = True
    reach: Reach = field(default_factory=Reach)

    def __call__(self, store: Store, clock: Clock) -> NodeAttestor:
        """Make the attestor."""
        del clock
        for pattern in self.patterns:
            if not (pattern.pattern.startswith(("^", r"\A")) and pattern.pattern.endswith(("$", r"\Z", r"\z"))):
                logger.warning(
                    "An allowed_dns_pattern of http_challenge matches within longer names too: put ^ before it and $ "
                    "behind it pattern=%r",
                    pattern.pattern,
                )
        return HTTPChallengeAttestor(self, store)


class HTTPChallengeAttestor:
    """Implements the `NodeAttestor` port. With `tofu`, a name that has an agent gets no second one."""

    name = NAME

    def __init__(self, settings: HTTPChallengeSettings, store: Store) -> None:
        self._settings = settings
        self._store = store

    async def attest(self, request: AttestationRequest) -> NodeAttestation:
        """Send a nonce, then fetch it from where the node says it is.

        Raises:
            InvalidArgument: the payload is malformed, or names a port that is not allowed.
            PermissionDenied: the name is not allowed, the nonce is not there, or the name has an agent already.
        """
        try:
            host = wire.Host.parse(request.payload)
        except AttestationMessageError as error:
            raise InvalidArgument(f"failed to unmarshal data: {error}") from error
        self._check(host)
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        await request.challenge(wire.challenge(nonce))
        # What the node answers does not matter: the proof is that it can be found by its name.
        try:
            found = await fetch(host.hostname, host.port, host.path, self._settings.reach)
        except CallbackError as error:
            raise PermissionDenied(f"challenge verification failed: {error}") from error
        if not hmac.compare_digest(found.strip(), nonce.encode()):
            raise PermissionDenied("challenge verification failed: expected nonce was not found in HTTP response")
        settings = self._settings
        agent = agent_id_of_path(self._store.trust_domain, f"/{NAME}/{host.hostname}")
        if settings.tofu and await self._store.agents.get(agent) is not None:
            logger.error("Attestation data has already been used to attest an agent spiffe_id=%s", agent)
            raise PermissionDenied("attestation data has already been used to attest an agent")
        selectors = (Selector(NAME, f"hostname:{host.hostname}"),)
        return NodeAttestation(agent, selectors, can_reattest=not settings.tofu, first_use_only=settings.tofu)

    def _check(self, host: wire.Host) -> None:
        settings = self._settings
        if settings.required_port and host.port != settings.required_port:
            raise InvalidArgument(f"port {host.port} is not allowed to be used by this server")
        if not settings.allow_non_root_ports and host.port >= PRIVILEGED_PORTS:
            raise InvalidArgument(f"port {host.port} is not allowed to be >= {PRIVILEGED_PORTS}")
        if not wire.is_agent_name(host.agent_name):
            raise InvalidArgument("agent name is not valid")
        if host.hostname.lower().rstrip(".") == "localhost":
            raise PermissionDenied("you can not use localhost as a hostname")
        problem = ""
        if not host.hostname:
            problem = "hostname must be set"
        elif not 0 < host.port < 65536:
            problem = "port is invalid"
        elif len(host.hostname) > MAXIMUM_HOSTNAME:
            problem = "hostname is too long"
        elif not _HOSTNAME.match(host.hostname):
            problem = "hostname can hold letters, digits, dashes, underscores and dots alone"
        if problem:
            raise PermissionDenied(f"challenge verification failed: {problem}")
        # Last: what a pattern costs can grow with the square of the name's length and more, and anybody may send names.
        if settings.patterns and not any(pattern.search(host.hostname) for pattern in settings.patterns):
            raise PermissionDenied("the requested hostname is not allowed to connect")


_HOSTNAME: Final = re.compile(r"[A-Za-z0-9_.-]+\Z", re.ASCII)
"""What can be both a host's name and a segment of a SPIFFE ID's path."""


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings. `denied_networks` and `allowed_networks` are ours.

    Raises:
        ConfigurationError: a pattern or network is none, or ports that anybody can open are to count more than once.
    """
    with data:
        patterns = tuple(_pattern(data, text) for text in data.texts("allowed_dns_patterns") or ())
        port = data.integer("required_port", minimum=1, maximum=65535)
        open_ports, tofu = data.boolean("allow_non_root_ports"), data.boolean("tofu")
        reach = Reach(_networks(data, "denied_networks"), _networks(data, "allowed_networks"))
    # As upstream judges it: without a required port, allow_non_root_ports decides, and allows unless it says no.
    anybodys = port >= PRIVILEGED_PORTS if port is not None else open_ports is not False
    if tofu is False and anybodys:
        raise data.error("you can not turn off trust on first use (TOFU) when non-root ports are allowed", "tofu")
    return HTTPChallengeSettings(patterns, port or 0, open_ports is not False, tofu is not False, reach)


def _pattern(data: Fields, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError) as error:
        problem = f"cannot compile allowed_dns_pattern: {text!r}, {error}"
        raise data.error(problem, "allowed_dns_patterns") from error


def _networks(data: Fields, key: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in data.texts(key) or ())
    except ValueError as error:
        raise data.error(f"{key}: {error}", key) from error
