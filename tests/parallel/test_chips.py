"""Peak rates by device name."""

import pytest

from clipjax.parallel.chips import GPUS, TPUS, chip_of, peak_flops


@pytest.mark.parametrize(
    ("kind", "chip"),
    [
        ("TPU v4", TPUS["v4"]),
        ("TPU v5 lite", TPUS["v5e"]),
        ("TPU v5", TPUS["v5p"]),
        ("TPU v5p", TPUS["v5p"]),
        ("TPU v6 lite", TPUS["v6e"]),
        ("NVIDIA H200", GPUS["H200"]),
        ("NVIDIA H100 PCIe", GPUS["H100 PCIe"]),
        ("NVIDIA H100 80GB HBM3", GPUS["H100"]),
        ("NVIDIA A100-SXM4-80GB", GPUS["A100-SXM4-80GB"]),
        ("NVIDIA A100-SXM4-40GB", GPUS["A100"]),
    ],
)
def test_chip_is_known_by_what_jax_calls_it(kind, chip):
    assert chip_of(kind) is chip


def test_peak_is_that_of_the_chip():
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12


@pytest.mark.parametrize("kind", ["cpu", "TPU v4 lite", "TPU v9"])
def test_an_unknown_device_is_not_guessed(kind):
    assert chip_of(kind) is None
    assert peak_flops(kind) is None
