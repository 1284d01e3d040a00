"""How long one waits before anything happens: `clipjax --help`, and the import of the package.

    python -m benchmarks.startup

Each measurement is a fresh process, the three in turn. Prints one JSON line with median seconds;
`import_ratio` compares `import clipjax` (with the loader, the lazy package's largest part) with
`import jax, flax.nnx`, without which nothing here works.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.timing import alternate, machine

COMMANDS = {
    "help": [str(Path(sys.executable).with_name("clipjax")), "--help"],
    "import_clipjax": [sys.executable, "-c", "import clipjax; clipjax.load"],
    "import_jax_flax": [sys.executable, "-c", "import jax, flax.nnx"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds

    def run(command: list[str]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    seconds = alternate({name: lambda command=command: run(command) for name, command in COMMANDS.items()}, rounds)
    report = {
        "benchmark": "startup",
        **{f"{name}_s": round(value, 3) for name, value in seconds.items()},
        "import_ratio": round(seconds["import_clipjax"] / seconds["import_jax_flax"], 2),
        **machine(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
