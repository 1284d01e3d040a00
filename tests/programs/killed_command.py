"""Run `clipjax` until it has written so many texts or reported so many steps, and die there as by a power cut.

    python killed_command.py texts|steps COUNT ARGUMENT ...

With a COUNT of 0 it runs to its end.
"""

import os
import signal
import sys

from clipjax.cli.main import main
from clipjax.texts.store import TextStore
from clipjax.training.meter import Meter


def dying(method, count: int):
    """Return the method, which kills this process after so many calls."""
    calls = 0

    def called(*args, **options):
        nonlocal calls
        result = method(*args, **options)
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return called


if __name__ == "__main__":
    what, count, *arguments = sys.argv[1:]
    owner, name = {"texts": (TextStore, "append"), "steps": (Meter, "report")}[what]
    setattr(owner, name, dying(getattr(owner, name), int(count)))
    sys.exit(main(arguments))
