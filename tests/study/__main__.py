"""python tests/study run GRAPH.json --prompts FILE --out DIR: see docs/study.md."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTS)
sys.path.insert(1, str(TESTS / "support"))

from study.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
