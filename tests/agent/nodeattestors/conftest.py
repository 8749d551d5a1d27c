"""Node attestors as a configuration makes them."""

from collections.abc import Callable
from typing import Any

import pytest

from authsec_sdk import hcl
from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import TrustDomain
from icp_agent.nodeattestors.registry import BUILT_IN
from icp_agent.ports import NodeParts


@pytest.fixture
def make_attestor() -> Callable[[str, str], Any]:
    """`make_attestor("x509pop", 'private_key_path = "key.pem"')`: as the agent makes it from plugin_data."""

    def make(name: str, data: str) -> Any:
        parts = NodeParts(TrustDomain.parse("example.org"), lambda: "token")
        return BUILT_IN[name](Fields(hcl.parse(data, "agent.conf"), "plugin_data"))(parts)

    return make
