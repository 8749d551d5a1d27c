import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.hcl import Body, load

SAMPLES = Path(__file__).with_name("samples")
NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in (".conf", ".json"))


@pytest.mark.parametrize("name", NAMES)
def test_samples_mean_what_they_say(name: str, tree: Callable[[Body], dict[str, Any]]) -> None:
    expected = SAMPLES / name.replace(".json", "_json").replace(".conf", "")
    assert tree(load(SAMPLES / name)) == json.loads(expected.with_suffix(".expected").read_text("utf-8"))


def test_there_are_samples() -> None:
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_line_ends_of_another_system_change_nothing(
    name: str, tree: Callable[[Body], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes((SAMPLES / name).read_bytes().replace(b"\n", b"\r\n"))
    unix, other = tree(load(SAMPLES / name)), tree(load(path))
    assert json.loads(json.dumps(other).replace("\\r\\n", "\\n")) == json.loads(json.dumps(unix))


@pytest.mark.parametrize("name", NAMES)
def test_every_place_points_at_its_key(name: str) -> None:
    lines = (SAMPLES / name).read_text("utf-8").split("\n")

    def check(body: Body) -> None:
        for attribute in body:
            there = lines[attribute.position.line - 1][attribute.position.column - 1 :]
            assert there.startswith((attribute.key, f'"{attribute.key}"')), (attribute.key, there)
            if isinstance(attribute.value, Body):
                check(attribute.value)

    check(load(SAMPLES / name))
