"""`python -m bench NAME [args]`: run one measurement; without a name, list them."""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def benches() -> dict[str, str]:
    """Every measurement (a module with `main(argv)`) and the first line of its docstring."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        entry = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
        is_bench = entry and [a.arg for a in entry[0].args.args] == ["argv"]
        if is_bench and not path.stem.startswith("_"):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: list[str]) -> int:
    known = benches()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python3 dev.py bench NAME [--json] [args]; NAME is one of")
        for name, text in known.items():
            print(f"  {name:10} {text}")
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        print(f"bench: no measurement is called {name}; {hint}", file=sys.stderr)
        return 2
    code = importlib.import_module(f"bench.{name}").main(rest)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
