"""The page about Envoy: Envoy takes its configurations as they stand, and its tables say what the agent does.

tests/interop/matrix/test_envoy.py runs the configurations.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from icp_agent.api.secret_wire import DISABLE_KEY
from icp_agent.domain.secret_streams import MAXIMUM_NAMES
from icp_agent.domain.secrets import SecretNames
from tests.envoy import envoy_binary

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/envoy.md").read_text()
OPERATIONS = (ROOT / "docs/operations/agent.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_envoy_takes_the_configuration(tmp_path: Path, number: int) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(blocks("yaml")[number])
    command = [str(envoy_binary()), "--mode", "validate", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(blocks("yaml")) == 2


def test_the_commands_have_flags_that_are_there() -> None:
    (text,) = blocks("sh")
    command = [sys.executable, "-m", "icp_server", "entry", "create", "-h"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    for line in text.replace("\\\n", " ").splitlines():
        program, *verbs = shlex.split(line)[:3]
        assert (program, verbs) == ("icp-server", ["entry", "create"])
        for flag in (word for word in shlex.split(line) if word.startswith("-")):
            assert f"  {flag} " in done.stdout + done.stderr, flag


def test_the_names_are_the_agents() -> None:
    names = SecretNames()
    for name in (names.default_svid, names.default_bundle, names.default_all_bundles):
        assert f"| `{name}` |" in PAGE
    for setting in ("default_svid_name", "default_bundle_name", "default_all_bundles_name"):
        default = getattr(names, setting.removesuffix("_name"))
        assert f"| `{setting}` | `{default}` |" in OPERATIONS
    assert f"`{DISABLE_KEY}: true`" in PAGE
    assert f"may ask for {MAXIMUM_NAMES} names" in OPERATIONS
