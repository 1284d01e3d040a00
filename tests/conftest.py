"""Shared fixtures. The test data folder is found by CLIPJAX_TEST_DATA; tests that need it skip without it."""

import logging
import os
import signal
from importlib.metadata import version
from pathlib import Path

# Compiling is most of the time of a test: unless XLA_FLAGS says otherwise, machine code is not optimised, here and in
# every child. Virtual devices share two processors, and one that waits long for another is not stuck.
# jax 0.10 has two ways to emit machine code, of which the older compiles a training step in a third of the time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1" * (version("jax") < "0.11"),
)
os.environ["XLA_FLAGS"] += " --xla_cpu_collective_call_terminate_timeout_seconds=600"

import jax
import jaxtyping
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts this in the background has Ctrl-C ignored, here and in every child
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_num_cpu_devices", 4)

# Shapes in the signatures of the models are checked at run time, in tests only. Configurations and losses are
# left out: they refuse values that do not fit themselves, and that is what their tests are about.
CHECKED = [
    f"clipjax.models.{name}"
    for name in (
        "beam_search", "causal_lm", "clip", "decoding", "kv_cache", "layers", "positions", "resnet", "text", "vision",
    )
]  # fmt: skip
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of golden vectors, real images and the testbed CLIP."""
    folder = Path(os.environ.get("CLIPJAX_TEST_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no test data at {folder}; set CLIPJAX_TEST_DATA")
    return folder


@pytest.fixture(autouse=True)
def _log_of_its_own():
    """Undo what a command that ran in this process, in a test or in a shared fixture, did to clipjax's log."""
    logger = logging.getLogger("clipjax")
    logger.handlers[:], logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
    yield


@pytest.fixture
def getkey():
    """A function that returns a fresh random key at every call, the same sequence in every run."""
    keys = iter(jax.random.split(jax.random.key(0), 64))
    return lambda: next(keys)
