"""What a kubelet says of the pods on its node, as values, and the selectors of a pod and of a container: pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authsec_sdk.errors import UnavailableError

_CONFIG_HASH: Final = "kubernetes.io/config.hash"


class PodListError(UnavailableError):
    """The kubelet sent what is no list of pods."""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container of a pod. `id` is empty until the runtime has made it."""

    name: str
    id: str
    image: str
    image_id: str


@dataclass(frozen=True, slots=True)
class Owner:
    """What made a pod."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the kubelet knows it. `config_hash` is what control groups of static pods are named by."""

    uid: str
    name: str
    namespace: str
    service_account: str
    node: str
    labels: Mapping[str, str]
    owners: tuple[Owner, ...]
    containers: tuple[ContainerStatus, ...]
    init_containers: tuple[ContainerStatus, ...]
    ephemeral_containers: tuple[ContainerStatus, ...]
    config_hash: str

    def container(self, id_: str) -> ContainerStatus | None:
        """Its container with this id."""
        every = (*self.containers, *self.init_containers, *self.ephemeral_containers)
        return next((status for status in every if status.id == id_), None)

    def is_called(self, uid: str) -> bool:
        """Whether a control group named by this uid is the pod's."""
        return uid in (self.uid, self.config_hash)


def parse_pods(body: bytes) -> tuple[Pod, ...]:
    """Read a `v1.PodList`.

    Raises:
        PodListError: it is none.
    """
    try:
        return tuple(_pod(item) for item in json.loads(body).get("items") or ())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PodListError(f"the kubelet sent no list of pods: {type(error).__name__}") from error


def find(pods: Iterable[Pod], pod_uid: str, container_id: str) -> tuple[Pod, ContainerStatus] | None:
    """The pod and the container of these ids; without a `pod_uid` the container alone decides. None if not (yet) there.

    Raises:
        PodListError: two pods have it, so neither is believed.
    """
    found = [
        (pod, status)
        for pod in pods
        if (not pod_uid or pod.is_called(pod_uid)) and (status := pod.container(container_id)) is not None
    ]
    if len(found) > 1:
        raise PodListError("the kubelet says that one container is in several pods")
    return found[0] if found else None


def pod_selectors(pod: Pod) -> Iterator[str]:
    """Upstream's selectors of a pod."""
    yield f"sa:{pod.service_account}"
    yield f"ns:{pod.namespace}"
    yield f"node-name:{pod.node}"
    yield f"pod-uid:{pod.uid}"
    yield f"pod-name:{pod.name}"
    yield f"pod-image-count:{len(pod.containers)}"
    yield f"pod-init-image-count:{len(pod.init_containers)}"
    for status in pod.containers:
        for image in _images(status):
            yield f"pod-image:{image}"
    for status in pod.init_containers:
        for image in _images(status):
            yield f"pod-init-image:{image}"
    for key, value in pod.labels.items():
        yield f"pod-label:{key}:{value}"
    for owner in pod.owners:
        yield f"pod-owner:{owner.kind}:{owner.name}"
        yield f"pod-owner-uid:{owner.kind}:{owner.uid}"


def container_selectors(status: ContainerStatus) -> Iterator[str]:
    """Upstream's selectors of the one container a process is in."""
    yield f"container-name:{status.name}"
    for image in _images(status):
        yield f"container-image:{image}"


def _images(status: ContainerStatus) -> tuple[str, ...]:
    return tuple(image for image in (status.image, status.image_id) if image)


def _pod(item: Any) -> Pod:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    return Pod(
        uid=_text(metadata["uid"]),
        name=_text(metadata["name"]),
        namespace=_text(metadata["namespace"]),
        service_account=_text(spec.get("serviceAccountName")),
        node=_text(spec.get("nodeName")),
        labels={_text(key): _text(value) for key, value in (metadata.get("labels") or {}).items()},
        owners=tuple(
            Owner(_text(each["kind"]), _text(each["name"]), _text(each["uid"]))
            for each in metadata.get("ownerReferences") or ()
        ),
        containers=_statuses(status.get("containerStatuses")),
        init_containers=_statuses(status.get("initContainerStatuses")),
        ephemeral_containers=_statuses(status.get("ephemeralContainerStatuses")),
        config_hash=_text((metadata.get("annotations") or {}).get(_CONFIG_HASH)),
    )


def _statuses(items: Any) -> tuple[ContainerStatus, ...]:
    return tuple(
        ContainerStatus(
            name=_text(each["name"]),
            id=_text(each.get("containerID")).rpartition("/")[2],  # containerd://…
            image=_text(each.get("image")),
            image_id=_text(each.get("imageID")),
        )
        for each in items or ()
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
