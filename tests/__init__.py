"""A package, so that a `tests` which some library installs is not found in its place."""
