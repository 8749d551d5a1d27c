"""Kafka over mutual TLS with this workload's identity (extra ``kafka``): aiokafka's clients, on asyncio and uvloop.

``mtls_producer``, ``mtls_consumer`` and ``mtls_admin_client`` give ordinary clients of aiokafka whose every connection
presents the newest X509-SVID and is refused, before a request is sent, unless the broker's SPIFFE ID satisfies the
authorizer. The authorizer is asked about each broker of the cluster, not about the first one alone, so it has to accept
all of them: ``authorize_path("spiffe://example.org/kafka/*")``, or one ID that the brokers share.

What is not checked: DNS names; brokers are known by their SPIFFE IDs alone, whatever host names the cluster announces.
A connection that is already open keeps the identities it was made with; ``connections_max_idle_ms`` ends idle ones.
"""

import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context, peer_spiffe_id

__all__ = ["broker_spiffe_ids", "mtls_admin_client", "mtls_consumer", "mtls_options", "mtls_producer"]

_OURS = ("security_protocol", "ssl_context")
_PROTOCOLS = ("SSL", "SASL_SSL")


def mtls_options(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
) -> dict[str, Any]:
    """Return the options about TLS for a client of aiokafka made by hand: ``AIOKafkaClient(**mtls_options(…))``.

    With SASL as well, set ``security_protocol="SASL_SSL"`` after them; every other value would leave mutual TLS.
    """
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    return {"security_protocol": "SSL", "ssl_context": context}


def mtls_producer(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> AIOKafkaProducer:
    """Return an ``AIOKafkaProducer``; ``options`` are its own (``bootstrap_servers``, ``acks``, ``sasl_…``, …).

    Call it where the loop runs. A refused broker counts as one that is not reachable: aiokafka raises
    ``KafkaConnectionError`` from ``start()`` when none is left, and ``on_rejected`` hears the reason.

    Raises:
        CallerError: for an option that would go round the policy.

    """
    tls = mtls_options(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    return AIOKafkaProducer(**_merged(options, tls))


def mtls_consumer(
    source: X509ContextSource,
    authorizer: Authorizer,
    *topics: str,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> AIOKafkaConsumer:
    """Return an ``AIOKafkaConsumer`` of some topics; otherwise as :func:`mtls_producer`.

    Raises:
        CallerError: for an option that would go round the policy.

    """
    tls = mtls_options(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    return AIOKafkaConsumer(*topics, **_merged(options, tls))


def mtls_admin_client(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> AIOKafkaAdminClient:
    """Return an ``AIOKafkaAdminClient``; otherwise as :func:`mtls_producer`.

    Raises:
        CallerError: for an option that would go round the policy.

    """
    tls = mtls_options(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    return AIOKafkaAdminClient(**_merged(options, tls))


def broker_spiffe_ids(client: Any) -> Mapping[int, SpiffeID]:
    """Return the SPIFFE ID of each broker, by node ID, that a started client has a connection to now.

    Raises:
        CallerError: the client was not made with the options of this module.

    """
    inner = getattr(client, "client", None) or getattr(client, "_client", client)
    if not isinstance(getattr(inner, "_ssl_context", None), SpiffeSSLContext):
        raise CallerError(
            "this client has no verified SPIFFE IDs: it was not made with mtls_options() or its factories"
        )
    seen: dict[int, SpiffeID] = {}
    for (node, _), connection in inner._conns.items():
        peer = peer_spiffe_id(connection._writer.transport) if connection.connected() else None
        if peer is not None and isinstance(node, int):
            seen[node] = peer
    return seen


def _merged(options: Mapping[str, Any], tls: Mapping[str, Any]) -> dict[str, Any]:
    """Add the options about TLS; SASL inside of it is the caller's to ask for."""
    wanted = options.get("security_protocol", "SSL")
    if "ssl_context" in options or wanted not in _PROTOCOLS:
        raise CallerError(
            f"{', '.join(sorted(set(options) & set(_OURS)))}: not taken here; certificates, keys and trust come from "
            "the source, and connections made otherwise would go round the SPIFFE policy"
        )
    return {**tls, **options, "security_protocol": wanted}
