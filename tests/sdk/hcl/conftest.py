from collections.abc import Callable
from typing import Any

import pytest

from authsec_sdk.hcl import Body, ListValue, Scalar, Value


def _value(value: Value) -> Any:
    if isinstance(value, Scalar):
        return value.value
    if isinstance(value, ListValue):
        return [_tree(item) if isinstance(item, Body) else _value(item) for item in value.items]
    return [_tree(value)]


def _tree(body: Body) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for attribute in body:
        value = _value(attribute.value)
        repeats = attribute.key in tree and isinstance(attribute.value, Body)
        tree[attribute.key] = tree[attribute.key] + value if repeats else value
    return tree


@pytest.fixture(scope="session")
def tree() -> Callable[[Body], dict[str, Any]]:
    """A body without its places: blocks are lists of trees, as other readers of HCL 1 give them."""
    return _tree
