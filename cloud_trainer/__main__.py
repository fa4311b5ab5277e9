"""``python -m cloud_trainer``: what ``cloud-trainer`` does."""

import sys

from cloud_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main())
