"""Which modules a piece of code brings in, seen in a process that has none of them."""

import json
import subprocess
import sys
from collections.abc import Iterable

__all__ = ["imported_by"]


def imported_by(code: str, names: Iterable[str]) -> list[str]:
    """Run code in a new process, and return those of the modules that are imported afterwards."""
    look = f"print(json.dumps([name for name in {tuple(names)!r} if name in sys.modules]))"
    program = f"import json, sys\n{code}\n{look}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found
