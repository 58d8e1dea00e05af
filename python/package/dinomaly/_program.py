"""The program `dinomaly`, as `pip install` puts it on the path."""

import sys

from ._dinomaly import run_program


def main() -> int:
    """Runs the program with the words of the command line, and returns its exit status."""
    return run_program(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
