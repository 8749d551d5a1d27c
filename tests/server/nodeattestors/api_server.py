"""A stand-in for a Kubernetes API server over real https: the three resources k8s_psat asks for, answered as recorded.

The answers are those of a real cluster (1.20): what it says of good tokens, of tokens for another audience, of
garbage, of tokens whose pod is gone, and to callers that may not ask.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

REVIEWER = "reviewer-token"
TOKEN = "good-token"


def _review(body: bytes) -> dict[str, Any]:
    """Read a TokenReview as JSON, or as the protobuf that Go's clients send."""
    if not body.startswith(b"k8s\0"):
        review: dict[str, Any] = json.loads(body)
        return review
    raw = b"".join(value for number, value in _fields(body[4:]) if number == 2)
    spec = b"".join(value for number, value in _fields(raw) if number == 2)
    fields = list(_fields(spec))
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {
            "token": b"".join(value for number, value in fields if number == 1).decode(),
            "audiences": [value.decode() for number, value in fields if number == 2],
        },
    }


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message, all of which these are."""
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = data[position]
            position += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return number

    while position < len(data):
        tag, length = varint(), varint()
        assert tag & 7 == 2, "not length-delimited"
        yield tag >> 3, data[position : position + length]
        position += length


class APIServerStandIn:
    """`with APIServerStandIn() as cluster:`; tests change `tokens`, `pods`, `nodes` and `answer`."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {
            TOKEN: {
                "audiences": ["spire-server"],
                "user": {
                    "username": "system:serviceaccount:default:agent",
                    "uid": "b2e5",
                    "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
                    "extra": {
                        "authentication.kubernetes.io/pod-name": ["agent-x7k"],
                        "authentication.kubernetes.io/pod-uid": ["pod-uid-1"],
                    },
                },
            }
        }
        self.pods: dict[str, dict[str, Any]] = {
            "default/agent-x7k": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {
                    "name": "agent-x7k",
                    "namespace": "default",
                    "uid": "pod-uid-1",
                    "labels": {"app": "agent", "team": "a"},
                },
                "spec": {"nodeName": "node-1", "serviceAccountName": "agent"},
                "status": {"hostIP": "172.16.10.1"},
            }
        }
        self.nodes: dict[str, dict[str, Any]] = {
            "node-1": {
                "kind": "Node",
                "apiVersion": "v1",
                "metadata": {"name": "node-1", "uid": "node-uid-1", "labels": {"zone": "z1", "secret": "s"}},
            }
        }
        self.answer: tuple[int, bytes] | None = None
        self.asked: list[str] = []
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.write(self.certificate)
            file.flush()
            context.load_cert_chain(file.name)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, *, token: str = REVIEWER, **user: Any) -> dict[str, Any]:
        """What `kubectl config view --flatten` would print."""
        authority = base64.b64encode(self.certificate).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": {"token": token, **user}}],
        }

    def write_kubeconfig(self, path: Path, **settings: Any) -> Path:
        path.write_text(json.dumps(self.kubeconfig(**settings)))
        return path

    def respond(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(f"{method} {path}")
        if self.answer is not None:
            return self.answer
        if authorization != f"Bearer {REVIEWER}":
            return self._failure(403, "tokenreviews.authentication.k8s.io is forbidden: User cannot create resource")
        parts = path.strip("/").split("/")
        if method == "POST" and path == "/apis/authentication.k8s.io/v1/tokenreviews":
            review = _review(body)
            return 201, json.dumps(review | {"status": self._status(review["spec"])}).encode()
        if len(parts) == 6 and parts[4] == "pods":
            return self._found(self.pods, f"{parts[3]}/{parts[5]}", f'pods "{parts[5]}" not found')
        if len(parts) == 4 and parts[2] == "nodes":
            return self._found(self.nodes, parts[3], f'nodes "{parts[3]}" not found')
        return self._failure(404, "the server could not find the requested resource")

    def _status(self, spec: dict[str, Any]) -> dict[str, Any]:
        known = self.tokens.get(spec["token"])
        if known is None:
            return {"user": {}, "error": "invalid bearer token"}
        wanted = spec.get("audiences") or ["https://kubernetes.default.svc"]
        if known["audiences"] and not set(wanted) & set(known["audiences"]):
            has, asked = json.dumps(known["audiences"]), json.dumps(wanted)
            problem = f"[invalid bearer token, token audiences {has} is invalid for the target audiences {asked}]"
            return {"user": {}, "error": problem}
        return {"authenticated": True, **known}

    def _found(self, values: dict[str, dict[str, Any]], name: str, missing: str) -> tuple[int, bytes]:
        return (200, json.dumps(values[name]).encode()) if name in values else self._failure(404, missing)

    @staticmethod
    def _failure(code: int, message: str) -> tuple[int, bytes]:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
        return code, json.dumps(status).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, data = stand_in.respond(self.command, self.path, self.headers.get("Authorization") or "", body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _serve

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _certificate(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
