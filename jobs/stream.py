"""Runs live streams, submitted: the arguments and exit codes of `tidemill run`.

./spark-submit.sh jobs/stream.py departures --available-now
"""

from __future__ import annotations

import sys

from tidemill.cli.app import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
