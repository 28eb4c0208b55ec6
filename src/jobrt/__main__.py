"""Entry point of ``python -m jobrt``."""

import sys

from jobrt.cli import main

if __name__ == "__main__":
    sys.exit(main())
