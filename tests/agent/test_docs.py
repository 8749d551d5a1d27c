"""The operator's page says what the code does."""

import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path

from icp_agent.cli.program import _COMMANDS
from icp_agent.config import load_config
from icp_agent.config.raw import RawSettings
from icp_agent.domain.agent_state import ANSWERS, AgentStatus, Answer, Phase
from icp_agent.storage import CREDENTIAL, SEAL_KEY

PAGE = (Path(__file__).parents[2] / "docs/operations/agent.md").read_text()


def test_the_first_configuration_is_valid(tmp_path):
    (sample,) = re.findall(r"^```hcl\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "agent.conf"
    path.write_text(sample)
    assert load_config(path).warnings == ()


def test_each_setting_that_is_read_is_named():
    honoured = next(line for line in PAGE.splitlines() if line.startswith("**Honoured.**"))
    for field in dataclasses.fields(RawSettings):
        assert f"`{field.name}`" in honoured, field.name


def test_each_state_is_told_with_its_health_and_its_answer():
    cells = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    rows = {row[0]: row for row in cells if len(row) == 3}
    for phase in Phase:
        _, answer, health = rows[phase.value]
        assert (health == "yes") == AgentStatus(datetime.now(UTC), phase).healthy, phase
        assert ("PERMISSION_DENIED" in answer) == (ANSWERS[phase] is Answer.DENY), phase


def test_commands_and_files_are_named():
    listed = next(line for line in PAGE.splitlines() if line.startswith("`run`, `validate`"))
    for name, _, _ in _COMMANDS:
        assert f"`{name}`" in listed
    for name in (SEAL_KEY, CREDENTIAL, "agent-svid.sealed", "agent-bundle.sealed", "agent-pending-key.sealed"):
        assert f"`{name}`" in PAGE
