"""One module for each sub-command of ``edge-agent``."""
