"""`python -m hub.api`: the server behind `hub serve`."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # What is loaded now stays: walking it again and again is a sixth of the start. The server
    # collects again as soon as all of it is up.
    gc.disable()
    from hub.api.server import main

    main()
