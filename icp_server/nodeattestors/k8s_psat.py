"""Attestation by a Kubernetes service account token that is bound to the agent's pod: the cluster says whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.attestation import k8s_psat as wire
from authsec_sdk.spire.attestation.messages import AttestationMessageError
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.errors import Internal, InvalidArgument, PermissionDenied
from icp_server.nodeattestors.agent_path import agent_id_of_path
from icp_server.nodeattestors.kubernetes import Cluster, KubernetesError, TokenStatus
from icp_server.ports import AttestationRequest, Clock, MakeNodeAttestor, NodeAttestation, NodeAttestor, Store

NAME: Final = wire.NAME
DEFAULT_AUDIENCE: Final = ("spire-server",)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """One cluster: whom of it to let in, and how to ask it. `audience` empty: that of its API server."""

    service_accounts: frozenset[str]
    audience: tuple[str, ...] = DEFAULT_AUDIENCE
    kubeconfig: Path | None = None
    node_labels: frozenset[str] = frozenset()
    pod_labels: frozenset[str] = frozenset()
    pod_uid_names_agent: bool = False


@dataclass(frozen=True, slots=True)
class PSATSettings:
    """What `plugin_data` says; called, it makes the attestor."""

    clusters: tuple[tuple[str, ClusterSettings], ...]

    def __call__(self, store: Store, clock: Clock) -> NodeAttestor:
        """Make the attestor; clusters are asked when the first of their nodes comes."""
        del clock
        return PSATAttestor(dict(self.clusters), store.trust_domain)


class PSATAttestor:
    """Implements the `NodeAttestor` port. The node may come again: the cluster answers for it each time."""

    name = NAME

    def __init__(self, clusters: Mapping[str, ClusterSettings], trust_domain: TrustDomain) -> None:
        self._clusters = {name: (settings, Cluster(settings.kubeconfig)) for name, settings in clusters.items()}
        self._trust_domain = trust_domain

    async def attest(self, request: AttestationRequest) -> NodeAttestation:
        """Let the cluster review the token, then ask it for the pod and the node.

        Raises:
            InvalidArgument: the payload is malformed, or names no cluster of ours.
            PermissionDenied: the token is not good for us, or not of an allowed service account or living pod.
            Internal: the cluster refuses the token, does not answer, or says too little.
        """
        try:
            shown = wire.ClusterToken.parse(request.payload)
        except AttestationMessageError as error:
            raise InvalidArgument(f"failed to unmarshal data payload: {error}") from error
        if not shown.cluster:
            raise InvalidArgument("missing cluster in attestation data")
        if not shown.token:
            raise InvalidArgument("missing token in attestation data")
        if shown.cluster not in self._clusters:
            raise InvalidArgument(f'not configured for cluster "{shown.cluster[:100]}"')
        settings, cluster = self._clusters[shown.cluster]
        where = f'for cluster "{shown.cluster}"'
        try:
            status = await cluster.review(shown.token, settings.audience)
        except KubernetesError as error:
            raise Internal(f"unable to validate token with TokenReview API {where}: {error}") from error
        namespace, account = _checked(status, settings, where)
        try:
            pod = await cluster.pod(namespace, status.pod_name)
        except KubernetesError as error:
            raise Internal(f"fail to get pod from k8s API server {where}: {error}") from error
        if pod.uid != status.pod_uid:
            # Upstream does not look: another pod took the name since, perhaps on another node.
            raise PermissionDenied(f"the token's pod is gone {where}")
        try:
            node = await cluster.node(pod.node_name)
        except KubernetesError as error:
            raise Internal(f"fail to get node from k8s API server {where}: {error}") from error
        if not node.uid:
            raise Internal(f"node UID is empty {where}")
        values = {
            "cluster": shown.cluster,
            "agent_ns": namespace,
            "agent_sa": account,
            "agent_pod_name": status.pod_name,
            "agent_pod_uid": status.pod_uid,
            "agent_node_ip": pod.host_ip,
            "agent_node_name": pod.node_name,
            "agent_node_uid": node.uid,
            **{f"agent_node_label:{key}": value for key, value in node.labels.items() if key in settings.node_labels},
            **{f"agent_pod_label:{key}": value for key, value in pod.labels.items() if key in settings.pod_labels},
        }
        suffix = f"pod/{status.pod_uid}" if settings.pod_uid_names_agent else node.uid
        selectors = tuple(Selector(NAME, f"{key}:{value}") for key, value in values.items())
        agent = agent_id_of_path(self._trust_domain, f"/{NAME}/{shown.cluster}/{suffix}")
        return NodeAttestation(agent, selectors, can_reattest=True)


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: a cluster's name or settings are wrong, or a key is unknown.
    """
    with data:
        clusters = [
            (name, _cluster(Fields(body, f"clusters.{name}"), name)) for name, body in data.labelled("clusters")
        ]
    names = [name for name, _ in clusters]
    for name in names:
        if names.count(name) > 1:
            raise data.error(f"cluster {name!r} is configured twice", "clusters")
    return PSATSettings(tuple(clusters))


def _cluster(data: Fields, name: str) -> ClusterSettings:
    with data:
        accounts = data.texts("service_account_allow_list") or ()
        if not accounts:
            raise data.error(f'cluster "{name}" configuration must have at least one service account allowed')
        audience = data.texts("audience")
        kubeconfig = data.text("kube_config_file")
        if data.boolean("use_token_review_api") is False:
            raise data.error("tokens are always reviewed by the cluster's own API", "use_token_review_api")
        settings = ClusterSettings(
            frozenset(accounts),
            DEFAULT_AUDIENCE if audience is None else audience,
            Path(kubeconfig) if kubeconfig else None,
            frozenset(data.texts("allowed_node_label_keys") or ()),
            frozenset(data.texts("allowed_pod_label_keys") or ()),
            data.boolean("use_pod_uid_for_agent_id") or False,
        )
    try:
        SpiffeID.from_path(TrustDomain("example.org"), f"/{name}")
    except InvalidSpiffeIDError as error:
        raise data.error(f"the cluster's name {name!r} becomes part of its agents' IDs, and cannot: {error}") from error
    return settings


def _checked(status: TokenStatus, settings: ClusterSettings, where: str) -> tuple[str, str]:
    """Return namespace and name of the service account if it may attest nodes."""
    if not status.authenticated:
        raise PermissionDenied(f"token not authenticated according to TokenReview API {where}")
    if settings.audience and not set(settings.audience) & set(status.audiences):
        # Kubernetes tells clients to look: a server that knows no audiences authenticates any token of the cluster.
        raise Internal(
            f"unable to validate token with TokenReview API {where}: token review API did not validate audience"
        )
    kind, _, rest = status.username.partition(":serviceaccount:")
    namespace, _, account = rest.partition(":")
    if kind != "system" or not namespace or not account or ":" in account:
        raise Internal(f"fail to parse username from token review status {where}: no service account")
    full = f"{namespace}:{account}"
    if full not in settings.service_accounts:
        raise PermissionDenied(f'"{full}" is not an allowed service account {where}')
    if not status.pod_name:
        raise Internal(f"fail to get pod name from token review status {where}: missing pod name")
    if not status.pod_uid:
        raise Internal(f"fail to get pod UID from token review status {where}: missing pod UID")
    return namespace, account
