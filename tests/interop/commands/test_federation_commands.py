"""Bundles, federation, the log level and what a server says of itself: by both programs on both servers, as upstream.

Needs upstream's `spire-server`, named by SPIRE_SERVER_BIN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spiffe import TrustBundle, X509Bundle, format_bundle_document
from authsec_sdk.testing import TestCA
from tests.interop.commands.test_server_commands import OURS, UPSTREAM, run, running

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not UPSTREAM, reason="needs upstream's programs: set SPIRE_SERVER_BIN and SPIRE_AGENT_BIN"),
]

ENTRY = "-spiffeID spiffe://example.org/a -parentID spiffe://example.org/p -selector unix:uid:1"
WEB = "-bundleEndpointURL https://127.0.0.1:1/x -bundleEndpointProfile https_web"
SPIFFE = (
    "-bundleEndpointURL https://127.0.0.1:1 -bundleEndpointProfile https_spiffe "
    "-endpointSpiffeID spiffe://fed.test/spire/server"
)
COMMANDS = f"""
bundle count
bundle count -output json
bundle list
bundle list -output json
bundle list -id fed.test
bundle list -id example.org
bundle set
bundle set -id fed.test -path {{folder}}/nothing.pem
bundle set -id fed.test -path {{folder}}/fed.pem -format nope
bundle set -id fed.test -path {{folder}}/fed.pem
bundle set -id spiffe://fed.test/with/path -path {{folder}}/fed.json -format spiffe -output json
bundle set -id example.org -path {{folder}}/fed.pem
bundle set -id example.org -path {{folder}}/fed.pem -output json
bundle count
bundle list
bundle list -id fed.test -format spiffe
bundle list -id fed.test -output json
bundle list -format nope
bundle show -format SPIFFE -output nope
entry create {ENTRY} -federatesWith spiffe://nobody.test
entry create {ENTRY} -federatesWith spiffe://fed.test -entryID e1
entry show -federatesWith spiffe://fed.test
bundle delete
bundle delete -id fed.test -mode nope
bundle delete -id fed.test
bundle delete -id fed.test -output json
bundle delete -id nobody.test
bundle delete -id example.org
bundle delete -id spiffe://fed.test -mode dissociate
entry count -federatesWith spiffe://fed.test
entry count
bundle set -id fed.test -path {{folder}}/fed.pem
entry create {ENTRY} -selector unix:uid:2 -federatesWith spiffe://fed.test -entryID e2
bundle delete -id fed.test -mode delete -output json
entry count
federation list
federation list -output json
federation create
federation create -trustDomain fed.test
federation create -trustDomain fed.test -bundleEndpointURL https://x
federation create -trustDomain fed.test -bundleEndpointURL http://x -bundleEndpointProfile https_web
federation create -trustDomain fed.test -bundleEndpointURL https://u:p@x -bundleEndpointProfile https_web
federation create -trustDomain fed.test -bundleEndpointURL https://x -bundleEndpointProfile https_spiffe
federation create -trustDomain example.org {WEB}
federation create -trustDomain web.test {WEB}
federation create -trustDomain fed.test {SPIFFE} -trustDomainBundlePath {{folder}}/fed.pem -output json
federation create -data {{folder}}/many.json
federation create -data {{folder}}/many.json -trustDomain fed.test
federation list
federation show
federation show -trustDomain nobody.test
federation show -trustDomain fed.test
federation show -trustDomain web.test -output json
federation update -trustDomain web.test {SPIFFE}
federation update -trustDomain fed.test {WEB} -output json
federation delete
federation delete -id nobody.test
federation delete -id nobody.test -output json
federation delete -id spiffe://fed.test -output json
federation delete -id web.test
federation refresh
federation refresh -id nobody.test
federation list
bundle count
logger get
logger get -output json
logger set
logger set -level nope
logger set -level WARN
logger set -level trace -output json
logger reset
logger nope
debug getinfo
debug getinfo -output json
"""


def write_files(folder: Path, bundle: X509Bundle) -> None:
    (folder / "fed.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in bundle.authorities))
    document = json.loads(format_bundle_document(TrustBundle(bundle.trust_domain, bundle.authorities)))
    document |= {"spiffe_sequence": 5, "spiffe_refresh_hint": 90}
    (folder / "fed.json").write_text(json.dumps(document))
    many = [
        {
            "trustDomain": "many1.test",
            "bundleEndpointURL": "https://127.0.0.1:1/many",
            "bundleEndpointProfile": "https_web",
        },
        {
            "trustDomain": "fed.test",
            "bundleEndpointURL": "https://127.0.0.1:1/many",
            "bundleEndpointProfile": "https_spiffe",
            "endpointSPIFFEID": "spiffe://fed.test/spire/server",
            "trustDomainBundleFormat": "pem",
            "trustDomainBundle": (folder / "fed.pem").read_text(),
        },
    ]
    (folder / "many.json").write_text(json.dumps({"federationRelationships": many}))


def transcript(cli: Sequence[str], folder: Path, bundle: X509Bundle) -> dict[str, tuple[int, str, str]]:
    write_files(folder, bundle)
    lines = [line for line in COMMANDS.splitlines() if line]
    return {
        f"{number}: {line}": plain(run(cli, folder, line.format(folder=folder).split()), folder)
        for number, line in enumerate(lines)
    }


def plain(result: tuple[int, str, str], folder: Path) -> tuple[int, str, str]:
    """Take out what differs from run to run, and the words of the databases and of Go's parsers."""

    def change(text: str) -> str:
        text = text.replace(str(folder), "FOLDER")
        text = re.sub(r"(Uptime: +)\S+", r"\1N", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\S+Z", "T", text)
        text = re.sub(r'"uptime":\d+', '"uptime":0', text)
        text = re.sub(r'"expires_at":"\d+"', '"expires_at":"T"', text)
        text = re.sub(r"SERIALNUMBER=\d+", "SERIALNUMBER=N", text)
        return re.sub(r"(failed to (?:create|update) federation relationship): [^\"\\]*", r"\1: …", text)

    return result[0], change(result[1]), change(result[2])


@pytest.fixture(scope="module")
def bundle() -> X509Bundle:
    return TestCA("fed.test").bundle()


@pytest.fixture(scope="module")
def control(bundle: X509Bundle) -> dict[str, tuple[int, str, str]]:
    """What upstream's program says on upstream's server."""
    with running([UPSTREAM]) as folder:
        return transcript([UPSTREAM], folder, bundle)


@pytest.mark.parametrize(
    ("cli", "server"),
    [("upstream", "ours"), ("ours", "upstream"), ("ours", "ours")],
    ids=["upstream's commands, our server", "our commands, upstream's server", "our commands, our server"],
)
def test_commands_say_the_same(
    control: dict[str, tuple[int, str, str]], bundle: X509Bundle, cli: str, server: str
) -> None:
    programs: dict[str, Sequence[str]] = {"ours": OURS, "upstream": [UPSTREAM]}
    with running(programs[server]) as folder:
        found = transcript(programs[cli], folder, bundle)
    different = {
        line: {"wanted": control[line], "found": found[line]} for line in control if control[line] != found[line]
    }
    assert not different, json.dumps(different, indent=1)
