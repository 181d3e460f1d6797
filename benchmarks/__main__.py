"""``python -m benchmarks NOM [options]`` appelle ``benchmarks.NOM.main(options)``."""

import importlib
import sys
from pathlib import Path


def main() -> int:
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        print(f"Usage : python -m benchmarks NOM, où NOM est l'un de : {', '.join(known)}.", file=sys.stderr)
        return 2
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
