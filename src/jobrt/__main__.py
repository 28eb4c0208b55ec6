"""Entry point of ``python -m jobrt``."""

from jobrt.cli import run

if __name__ == "__main__":
    run()
