import subprocess
import sys


def test_measuring_does_not_import_what_only_fitting_and_training_need():
    code = "import sys, clipjax.evaluation, clipjax.classify.linear_probe; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "clipjax.classify.linear_probe" in modules
    assert not {"jax", "flax", "sklearn", "torch", "transformers"} & set(modules)
