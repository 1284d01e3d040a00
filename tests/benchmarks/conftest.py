"""The benchmarks are not installed: they are imported from the repository."""

import sys
from pathlib import Path

# at the end, so that an installed clipjax comes before the one that lies here
sys.path.append(str(Path(__file__).resolve().parents[2]))
