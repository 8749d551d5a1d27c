"""SPIFFE IDs and trust domains as fields of pydantic models: read strictly, written as text, pydantic not needed."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from authsec_sdk.spiffe import SpiffeID, TrustDomain


class Service(BaseModel):
    peer: SpiffeID
    home: TrustDomain
    friends: dict[SpiffeID, int] = {}


PEER, HOME = SpiffeID.parse("spiffe://example.org/web"), TrustDomain("example.org")
JSON = '{"peer":"spiffe://example.org/web","home":"example.org","friends":{"spiffe://example.org/db":1}}'


def test_text_is_read_and_written_back() -> None:
    service = Service.model_validate_json(JSON)
    assert (service.peer, service.home) == (PEER, HOME)
    assert list(service.friends) == [SpiffeID.parse("spiffe://example.org/db")]
    assert service.model_dump_json() == JSON
    assert Service.model_validate(service.model_dump()) == service


def test_values_are_taken_as_they_are() -> None:
    service = Service(peer=PEER, home=HOME)
    assert (service.peer, service.home) == (PEER, HOME)


@pytest.mark.parametrize(
    "wrong",
    ["spiffe://example.org/a\n", "spiffe://Example.org/a", "https://example.org/a", "", 1, None, b"spiffe://a/b"],
)
def test_what_is_no_id_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Service.model_validate({"peer": wrong, "home": "example.org"})
    assert refused.value.errors()[0]["loc"][0] == "peer"
    with pytest.raises(ValidationError):
        Service.model_validate({"peer": PEER, "home": "Example.org"})


def test_the_schema_says_text() -> None:
    fields = Service.model_json_schema()["properties"]
    assert (fields["peer"]["type"], fields["home"]["type"]) == ("string", "string")


def test_pydantic_is_not_imported() -> None:
    code = "import sys, authsec_sdk.spiffe; assert not [name for name in sys.modules if name.startswith('pydantic')]"
    subprocess.run([sys.executable, "-c", code], check=True)
