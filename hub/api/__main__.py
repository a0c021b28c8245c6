"""`python -m hub.api`: the server behind `hub serve`."""

from __future__ import annotations

from hub.api.server import main

if __name__ == "__main__":
    main()
