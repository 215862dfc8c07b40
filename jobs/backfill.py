"""Recomputes intervals and swaps them in, submitted: the arguments and exit codes of `tidemill backfill`.

./spark-submit.sh jobs/backfill.py departures --dirty --yes
"""

from __future__ import annotations

import sys

from tidemill.cli.app import main

if __name__ == "__main__":
    main(["backfill", *sys.argv[1:]])
