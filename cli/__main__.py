"""`python -m clinvit.cli`, where the script `clinvit` is not on the path."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
