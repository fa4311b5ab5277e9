"""``python -m cloud_trainer``: what ``cloud-trainer`` does."""

import sys

from cloud_trainer.cli import main

sys.exit(main())
