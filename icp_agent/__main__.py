"""`python -m icp_agent` is `icp-agent`."""

import sys

from icp_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
