"""``python -m edge_agent``: what ``edge-agent`` does."""

import sys

from edge_agent.cli import main

sys.exit(main())
