"""`python -m icp_server` is `icp-server`."""

import sys

from icp_server.cli import main

if __name__ == "__main__":
    sys.exit(main())
