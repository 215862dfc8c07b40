"""``python -m tidemill``: the command line, where the script ``tidemill`` is not on the path."""

from __future__ import annotations

from tidemill.cli.app import main

if __name__ == "__main__":
    main()
