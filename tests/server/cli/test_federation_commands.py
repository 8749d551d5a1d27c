"""Bundles, federation, log level and server info by our commands, as a script sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spiffe import TrustBundle, format_bundle_document
from authsec_sdk.testing import TestCA
from icp_common.flags import FlagSet
from icp_server.cli.api import CommandError
from icp_server.cli.bundle_data import read_format, to_message
from icp_server.cli.federation_data import RelationshipFlags

FED = "fed.test"


@pytest.fixture
def authorities() -> Any:
    return TestCA(FED).bundle().authorities


@pytest.fixture
def pem(authorities: Any, tmp_path: Path) -> Path:
    path = tmp_path / "fed.pem"
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in authorities))
    return path


@pytest.fixture
def described() -> Callable[..., Any]:
    def read(*arguments: str) -> Any:
        flags = FlagSet("federation create")
        relationship = RelationshipFlags(flags)
        flags.parse(arguments)
        return relationship.relationships()

    return read


def test_a_bundle_is_read_in_both_formats(pem: Path, authorities: Any) -> None:
    (root,) = authorities
    by_pem = to_message(pem.read_bytes(), "pem", "as written")
    assert by_pem.trust_domain == "as written"
    assert [each.asn1 for each in by_pem.x509_authorities] == [root.public_bytes(Encoding.DER)]
    from authsec_sdk.spiffe import TrustDomain

    document = format_bundle_document(TrustBundle(TrustDomain(FED), authorities, sequence_number=3))
    by_document = to_message(document, "spiffe", f"spiffe://{FED}/path")
    assert (by_document.trust_domain, by_document.sequence_number) == (FED, 3)
    assert by_document.x509_authorities == by_pem.x509_authorities


@pytest.mark.parametrize(
    ("data", "format_", "name", "text"),
    [
        (b"", "pem", FED, "unable to parse bundle data"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "pem", FED, "unable to parse bundle data"),
        (b"{}", "spiffe", FED, "unable to parse to spiffe bundle"),
        (b"junk", "spiffe", FED, "unable to parse to spiffe bundle"),
        (b"{}", "spiffe", "No Domain", "may hold only"),
    ],
)
def test_what_is_no_bundle(data: bytes, format_: str, name: str, text: str) -> None:
    with pytest.raises(CommandError, match=text):
        to_message(data, format_, name)


def test_formats() -> None:
    assert [read_format(each) for each in ("", "PEM", "Spiffe")] == ["pem", "pem", "spiffe"]
    with pytest.raises(CommandError, match='invalid format: "der"'):
        read_format("der")


def test_a_relationship_by_flags(described: Callable[..., Any], pem: Path) -> None:
    (made,) = described(
        *("-trustDomain", FED, "-bundleEndpointURL", "https://x", "-bundleEndpointProfile", "https_spiffe"),
        *("-endpointSpiffeID", "spiffe://fed.test/s", "-trustDomainBundlePath", str(pem)),
    )
    assert made.https_spiffe.endpoint_spiffe_id == "spiffe://fed.test/s"
    assert made.trust_domain_bundle.trust_domain == FED
    assert len(made.trust_domain_bundle.x509_authorities) == 1


def test_relationships_by_a_file(described: Callable[..., Any], pem: Path, tmp_path: Path) -> None:
    item = {"trustDomain": FED, "bundleEndpointURL": "https://x", "bundleEndpointProfile": "https_web"}
    with_bundle = {**item, "trustDomainBundleFormat": "pem", "trustDomainBundle": pem.read_text()}
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"federationRelationships": [item, with_bundle]}))
    first, second = described("-data", str(file))
    assert first.WhichOneof("bundle_endpoint_profile") == "https_web"
    assert not first.HasField("trust_domain_bundle")
    assert len(second.trust_domain_bundle.x509_authorities) == 1
    with pytest.raises(CommandError, match="cannot use other flags"):
        described("-data", str(file), "-trustDomain", FED)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"trustDomain": ""}, "could not parse item 0: trust domain is required"),
        ({"bundleEndpointURL": None}, "bundle endpoint URL is required"),
        ({"bundleEndpointProfile": "web"}, "unknown bundle endpoint profile type"),
        ({"bundleEndpointProfile": "https_spiffe"}, "endpoint SPIFFE ID is required"),
        ({"bundleEndpointProfile": "https_spiffe", "endpointSPIFFEID": "x"}, "cannot parse bundle endpoint SPIFFE ID"),
        ({"trustDomainBundle": "x"}, 'bundle format "" is unsupported'),
        ({"trustDomainBundle": 1, "trustDomainBundleFormat": "pem"}, "must be a string"),
        ({"trustDomainBundle": {}, "trustDomainBundleFormat": "spiffe"}, "unable to parse to spiffe bundle"),
        ({"bundleEndpointUrls": "x"}, "did you mean 'bundleEndpointURL'"),
        ({"trustDomain": 5}, "cannot be a number"),
    ],
)
def test_files_that_are_wrong(described: Callable[..., Any], tmp_path: Path, change: Any, text: str) -> None:
    item = {"trustDomain": FED, "bundleEndpointURL": "https://x", "bundleEndpointProfile": "https_web"} | change
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"federationRelationships": [item]}))
    with pytest.raises(CommandError) as caught:
        described("-data", str(file))
    assert text in str(caught.value)
