"""`python -m hub.cli` is the same as `hub`."""

from __future__ import annotations

from hub.cli.main import main

if __name__ == "__main__":
    main()
