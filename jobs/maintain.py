"""Compacts and vacuums a pipeline's table, submitted: the arguments and exit codes of `tidemill maintain`.

./spark-submit.sh jobs/maintain.py departures --dry-run
"""

from __future__ import annotations

import sys

from tidemill.cli.app import main

if __name__ == "__main__":
    main(["maintain", *sys.argv[1:]])
