"""Makes a pipeline's table anew, or replays its events elsewhere, submitted: the arguments and exit codes of `tidemill replay`.

./spark-submit.sh jobs/replay.py balances --yes
"""

from __future__ import annotations

import sys

from tidemill.cli.app import main

if __name__ == "__main__":
    main(["replay", *sys.argv[1:]])
