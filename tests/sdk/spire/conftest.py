from collections.abc import Callable

import pytest

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.selectors import Selector

HOME = TrustDomain("example.org")


@pytest.fixture
def make_entry() -> Callable[..., RegistrationEntry]:
    """An entry that keeps every rule, but for what the test changes."""

    def make(**changes: object) -> RegistrationEntry:
        fields: dict[str, object] = {
            "spiffe_id": SpiffeID.parse("spiffe://example.org/web"),
            "parent_id": SpiffeID.parse("spiffe://example.org/spire/agent/join_token/abc"),
            "selectors": (Selector("unix", "uid:1000"),),
        }
        return RegistrationEntry(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def home() -> TrustDomain:
    return HOME
