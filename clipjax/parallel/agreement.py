"""What the processes of one run decide together, so that none waits for the others in a computation they skip."""

import jax
import numpy as np


def everywhere(here: bool) -> bool:
    """Tell whether something holds on every process. All of them must ask, in the same order."""
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array(here))))


def meet() -> None:
    """Wait until every process has come this far, such as for files that one of them writes or removes."""
    everywhere(True)
