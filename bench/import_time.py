"""What importing the SDK costs beside importing the four libraries it stands on; and that no web framework is loaded.

The claim is about `import authsec_sdk`, which loads nothing until a name of it is used. What all its public names
together cost, with those libraries under them, is printed beside it: about half of what they add is the making of
frozen dataclasses, of which every value of ours is one.

The libraries are imported by the entry points a program on them would use, not by their empty top-level packages.
Each import is a fresh interpreter, measured in CPU seconds between its first and last line, without its start-up.
"""

import subprocess
import sys

from bench import _results
from bench._paired import compare

CLAIM = 1.1
ROUNDS = 20

PACKAGE = "import authsec_sdk"
NAMES = "import authsec_sdk\nfor name in authsec_sdk.__all__: getattr(authsec_sdk, name)"
LIBRARIES = """
import grpclib.client, grpclib.server
import google.protobuf.descriptor_pool, google.protobuf.message_factory, google.protobuf.any_pb2
import google.protobuf.struct_pb2, google.protobuf.wrappers_pb2, google.protobuf.empty_pb2
import cryptography.x509, cryptography.x509.verification, cryptography.hazmat.primitives.serialization
import anyio
"""
WEB_FRAMEWORKS = {
    *("aiohttp", "django", "fastapi", "flask", "gunicorn", "httpx", "hypercorn", "requests", "starlette", "tornado"),
    *("urllib3", "uvicorn", "werkzeug", "grpc", "sqlalchemy", "rich", "pytest", "trio"),
}

_TIMED = "import time; began = time.process_time()\n{}\nprint(time.process_time() - began)"
_LOADED = "{}\nimport sys; print(*sys.modules)"


def run(program: str) -> str:
    """Run a program in an interpreter of its own and return what it prints."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def seconds(program: str) -> float:
    """Return how long the imports take."""
    return float(run(_TIMED.format(program)))


def main() -> int:
    """Print the comparison and what is loaded; return 1 if the claim is not met."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    loaded = {name.partition(".")[0] for name in run(_LOADED.format(NAMES)).split()} & WEB_FRAMEWORKS
    _results.plain("web frameworks and other extras loaded by all public names", ", ".join(sorted(loaded)) or "none")
    libraries = lambda: seconds(LIBRARIES)  # noqa: E731 - the other side of both comparisons
    package = compare(
        "`import authsec_sdk` ÷ grpclib, protobuf, cryptography and anyio alone",
        lambda: seconds(PACKAGE),
        libraries,
        rounds=rounds,
    )
    met = package.report(at_most=CLAIM, unit="s")
    compare("all public names of it ÷ the same", lambda: seconds(NAMES), libraries, rounds=rounds).report(unit="s")
    return 0 if met and not loaded else 1


if __name__ == "__main__":
    raise SystemExit(_results.run("import_time", main))
