"""Which attestors there are, and how another package adds one."""

import pytest

from authsec_sdk import hcl
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl import Fields
from icp_agent.nodeattestors.registry import BUILT_IN, LATER, known_attestors

PACKAGE = """
[icp_agent.node_attestors]
rack = rack_attestor:read
join_token = rack_attestor:read
broken = rack_attestor:nothing
"""

CODE = """
def read(data):
    with data:
        place = data.text("place")
    return lambda parts: (place, parts)
"""


@pytest.fixture
def another_package(tmp_path, monkeypatch):
    """A distribution on the path, as pip would have put it there."""
    (tmp_path / "rack_attestor.py").write_text(CODE)
    folder = tmp_path / "rack_attestor-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rack-attestor\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)


def settings(text):
    return Fields(hcl.parse(text, "agent.conf"), "plugin_data")


def test_another_package_adds_an_attestor_which_reads_its_own_settings(another_package):
    read = known_attestors()["rack"]
    assert read(settings('place = "7"'))("parts") == ("7", "parts")
    with pytest.raises(ConfigurationError, match="unknown key 'palce'"):
        read(settings('palce = "7"'))


def test_another_package_cannot_take_the_place_of_what_is_built_in(another_package):
    assert known_attestors()["join_token"] is BUILT_IN["join_token"]


def test_an_entry_point_that_leads_nowhere_is_named_with_the_place(another_package):
    with pytest.raises(ConfigurationError, match=r"agent.conf:1.*'broken' cannot be loaded \(rack_attestor:nothing\)"):
        known_attestors()["broken"](settings(" "))


def test_nothing_is_both_built_and_announced():
    assert not LATER & BUILT_IN.keys()
