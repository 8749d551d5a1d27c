"""Write docs/integrations/contract.md from the tests of the contract as pytest collects them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/integrations/contract.md"


def write(page: Path) -> None:
    """Collect the tests, run none, and write the page.

    Raises:
        RuntimeError: they cannot be collected.
    """
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CONTRACT_PAGE": str(page)}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [*command, "tests/sdk/integrations"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])


if __name__ == "__main__":
    write(PAGE)
