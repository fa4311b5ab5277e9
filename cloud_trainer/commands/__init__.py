"""One module for each sub-command of ``cloud-trainer``."""
