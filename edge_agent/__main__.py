"""``python -m edge_agent``: what ``edge-agent`` does."""

import sys

from edge_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
