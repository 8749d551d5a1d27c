"""What `import authsec_sdk` promises: few names, loaded when they are used, and typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import authsec_sdk


def run(code: str) -> str:
    """Run code in an interpreter that has imported nothing of ours."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = run(
        "import sys; before = set(sys.modules); import authsec_sdk\n"
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    assert loaded == "['authsec_sdk']"


@pytest.mark.parametrize("name", authsec_sdk.__all__)
def test_every_public_name_is_there_and_comes_from_below(name: str) -> None:
    value = getattr(authsec_sdk, name)
    assert value.__name__ == name
    assert value.__module__.startswith("authsec_sdk.")
    assert getattr(authsec_sdk, name) is value
    assert value.__doc__


def test_the_names_are_few_and_listed() -> None:
    assert 15 <= len(authsec_sdk.__all__) <= 25
    assert set(authsec_sdk.__all__) <= set(dir(authsec_sdk))
    listed = [name for names in authsec_sdk._PARTS.values() for name in names]
    assert sorted(listed) == sorted(authsec_sdk.__all__)


def test_other_names_are_missing_in_the_usual_way() -> None:
    with pytest.raises(AttributeError, match="no attribute 'SpiffeId'"):
        _ = authsec_sdk.SpiffeId  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from authsec_sdk import nothing_of_the_kind")


def test_an_id_is_had_without_asyncio_tls_or_grpc() -> None:
    # (`cryptography` itself loads `socket`, for e-mail addresses)
    heavy = {"asyncio", "ssl", "anyio", "grpclib", "google.protobuf", "logging", "starlette", "httpx"}
    loaded = run(
        "import sys; from authsec_sdk import SpiffeID, authorize_id; SpiffeID.parse('spiffe://a/b')\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    assert loaded == "[]"


def test_a_client_loads_no_server() -> None:
    loaded = run(
        "import sys; from authsec_sdk import X509Source, QuickStartSVID, mtls_client_context\n"
        "print([name for name in sys.modules if name.startswith('authsec_sdk.rpc.') and 'server' in name])\n"
        "from authsec_sdk.rpc import *; Server, current_call"
    )
    assert loaded == "[]"


def test_the_package_is_typed() -> None:
    assert (Path(authsec_sdk.__file__).parent / "py.typed").is_file()
