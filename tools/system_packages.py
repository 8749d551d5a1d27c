"""Install the Debian packages that tests need and this machine lacks; say so in one line where that is not possible.

Without a package the tests that need it skip and name it, so this never fails a run.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Package -> a file pattern of it, as seen from the root directory.
PACKAGES = {
    "dbus-daemon": "usr/bin/dbus-daemon",
    "postgresql": "usr/lib/postgresql/*/bin/initdb",
    "redis-server": "usr/bin/redis-server",
    "softhsm2": "usr/bin/softhsm2-util",
}
COMMANDS = {"postgresql": "initdb", "softhsm2": "softhsm2-util"}  # where other systems put it on PATH, that will do


def missing(root: Path = Path("/"), packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """Return the packages that are neither installed under a root directory nor on PATH by other means."""
    return [
        package
        for package, pattern in packages.items()
        if not any(root.glob(pattern)) and shutil.which(COMMANDS.get(package, package)) is None
    ]


def main() -> None:
    """Install what is missing with apt-get, as root on Debian; name it otherwise."""
    wanted = missing()
    if not wanted:
        return
    names = " ".join(wanted)
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        print(f"system_packages: missing here, their tests will skip: {names} (as root: apt-get install {names})")
        return
    print(f"system_packages: installing {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # tests start their own servers
    install = [apt, "install", "--yes", "--quiet=2", "--no-install-recommends", *wanted]
    for command in ([apt, "update", "--quiet=2"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"system_packages: apt-get could not install {names}; their tests will skip")


if __name__ == "__main__":
    main()
