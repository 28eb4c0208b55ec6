"""Entry point of ``python -m jobrt``."""

import sys

try:
    from jobrt.cli import run
except KeyboardInterrupt:  # the imports take a third of a second
    sys.exit(130)

if __name__ == "__main__":
    run()
