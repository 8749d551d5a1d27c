"""The operator's page says what the table says."""

import re
from pathlib import Path

from authsec_sdk import hcl
from icp_server.cli.program import _COMMANDS
from icp_server.config import Overrides
from icp_server.config.load import parse_config
from icp_server.config.schema import EXPERIMENTAL, SERVER, Key
from icp_server.grpc_api.access import ACCESS, Right
from icp_server.nodeattestors.registry import known_attestors

PAGE = (Path(__file__).parents[3] / "docs/operations/server.md").read_text()

ROWS = {"anybody": Right.ANY, "agent": Right.AGENT, "downstream": Right.DOWNSTREAM}


def test_the_first_configuration_is_valid() -> None:
    sample, *_ = re.findall(r"^```hcl\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config = parse_config(hcl.parse(sample, "server.md"), Overrides(), known_attestors())
    assert config.warnings == ()


def test_each_row_names_its_methods() -> None:
    for caller, right in ROWS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {caller} |"))
        named = set(re.findall(r"`(\w+/\w+)`", row))
        assert named == {
            re.sub(r".*\.(\w+/\w+)$", r"\1", method) for method, granted in ACCESS.items() if right in granted
        }


def test_each_setting_that_is_read_is_named() -> None:
    honoured = next(line for line in PAGE.splitlines() if line.startswith("**Honoured.**"))
    for table, prefix in ((SERVER, ""), (EXPERIMENTAL, "experimental.")):
        for name, key in table.items():
            if name != "experimental":
                assert (f"`{prefix}{name}`" in honoured) == _is_read(key), name


def _is_read(key: Key) -> bool:
    return not key.not_yet and not key.moot


def test_each_command_is_named() -> None:
    listed = next(line for line in PAGE.splitlines() if line.startswith("Commands there are:"))
    for name, _, _ in _COMMANDS:
        assert all(word in listed for word in name.split())
