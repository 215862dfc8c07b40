"""Fills a new pipeline's table with history, submitted: the arguments and exit codes of `tidemill bootstrap`.

./spark-submit.sh jobs/bootstrap.py departures
"""

from __future__ import annotations

import sys

from tidemill.cli.app import main

if __name__ == "__main__":
    main(["bootstrap", *sys.argv[1:]])
