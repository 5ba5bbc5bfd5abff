"""python -m dci_core: the methods without a host, on the small world that ships with the project."""

from __future__ import annotations

import sys

from .program.main import main

if __name__ == "__main__":
    sys.exit(main())
