"""The three questions k8s_psat asks a cluster: is this token good, what is this pod, what is this node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from authsec_sdk.errors import OperatorError, SpiffeError
from icp_common.http_exchange import Request, exchange
from icp_server.nodeattestors.kubeconfig import APIServer, api_server

SECONDS: Final = 10.0
MAXIMUM_BYTES: Final = 4 * 1024 * 1024
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class KubernetesError(OperatorError):
    """The cluster does not answer, or not what was asked; what it says stands in the text, tokens never do."""


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What the cluster says of a token."""

    authenticated: bool
    username: str
    audiences: tuple[str, ...]
    pod_name: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class Pod:
    """What is asked of a pod."""

    uid: str
    node_name: str
    host_ip: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """What is asked of a node."""

    uid: str
    labels: Mapping[str, str]


class Cluster:
    """One API server over https. The configuration is read for each call, so that replaced tokens count at once.

    Every method raises KubernetesError.
    """

    def __init__(self, kubeconfig: Path | None) -> None:
        self._kubeconfig = kubeconfig

    async def review(self, token: str, audiences: Sequence[str]) -> TokenStatus:
        """Ask whether a token is good for one of these audiences; of none: the API server's own."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        answer = await self._call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        status = _object(answer, "status")
        if problem := _text(status, "error"):
            raise KubernetesError(f"token review API response contains an error: {problem[:300]}")
        user = _object(status, "user")
        extra = _object(user, "extra")
        return TokenStatus(
            authenticated=status.get("authenticated") is True,
            username=_text(user, "username"),
            audiences=tuple(each for each in status.get("audiences") or () if isinstance(each, str)),
            pod_name=_only(extra, _POD_NAME),
            pod_uid=_only(extra, _POD_UID),
        )

    async def pod(self, namespace: str, name: str) -> Pod:
        """Look at a pod."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
        answer = await self._call("GET", path)
        metadata = _object(answer, "metadata")
        return Pod(
            _text(metadata, "uid"),
            _text(_object(answer, "spec"), "nodeName"),
            _text(_object(answer, "status"), "hostIP"),
            _labels(metadata),
        )

    async def node(self, name: str) -> Node:
        """Look at a node."""
        if not name:
            raise KubernetesError("empty node name")
        metadata = _object(await self._call("GET", f"/api/v1/nodes/{quote(name, safe='')}"), "metadata")
        return Node(_text(metadata, "uid"), _labels(metadata))

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        try:
            server = await asyncio.to_thread(api_server, self._kubeconfig)
            async with asyncio.timeout(SECONDS):
                status, data = await _exchange(server, method, path, body)
        except TimeoutError as error:
            raise KubernetesError(f"no answer within {SECONDS:g} s") from error
        except (SpiffeError, OSError, ValueError) as error:
            raise KubernetesError(str(error)[:300]) from error
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise KubernetesError(f"HTTP {status} without a JSON object")
        if status not in (200, 201):
            raise KubernetesError(f"HTTP {status}: {str(answer.get('message', ''))[:300]}")
        return answer


async def _exchange(server: APIServer, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
    headers = {"Accept": "application/json"}
    if server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    data = b""
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(
        server.host, server.port, ssl=server.context, server_hostname=server.server_name
    )
    host = f"[{server.host}]" if ":" in server.host else server.host
    request = Request(method, f"{host}:{server.port}", server.prefix + path, headers, data)
    answer = await exchange(reader, writer, request, limit=MAXIMUM_BYTES)
    return answer.status, answer.body


def _object(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _only(extra: Mapping[str, Any], key: str) -> str:
    """The one value of a user's extra; anything but exactly one is none."""
    values = extra.get(key)
    return values[0] if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str) else ""


def _labels(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    return {key: value for key, value in _object(metadata, "labels").items() if isinstance(value, str)}
