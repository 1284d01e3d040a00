"""What accelerators can do at most, as their makers state it: the yardsticks of plans and of utilisation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One device. Rates are per second; `bf16_flops` are dense products with float32 sums.

    `interconnect_bandwidth` is what a device can send into a ring of devices: on a TPU the two
    links of one torus axis, on a GPU NVLink in one direction.
    """

    name: str
    bf16_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    interconnect_bandwidth: float


# TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}. A ring along one torus axis sends over two of a chip's 4 (v5e,
# v6e) or 6 (v4, v5p) links; together they send as much as one link moves both ways: v5e 400 GB/s / 4, v6e 800 GB/s / 4,
# v4 600 GB/s / 6, v5p 1200 GB/s / 6. A v5e compiler lets programs use 15.75 GiB, a v6e compiler 31.25 GiB.
TPUS = {
    "v4": Chip("TPU v4", 275e12, 32 * 2**30, 1228e9, 100e9),
    "v5e": Chip("TPU v5e", 197e12, int(15.75 * 2**30), 819e9, 100e9),
    "v5p": Chip("TPU v5p", 459e12, 95 * 10**9, 2765e9, 200e9),
    "v6e": Chip("TPU v6e", 918e12, int(31.25 * 2**30), 1638e9, 200e9),
}

# GPUs: the data sheets at nvidia.com/en-us/data-center/{h200,h100,a100}; bfloat16 rates without sparsity.
GPUS = {
    "H200 NVL": Chip("H200 NVL", 835e12, 141 * 10**9, 4800e9, 450e9),
    "H200": Chip("H200", 989e12, 141 * 10**9, 4800e9, 450e9),
    "H100 PCIe": Chip("H100 PCIe", 756e12, 80 * 10**9, 2000e9, 300e9),
    "H100 NVL": Chip("H100 NVL", 835e12, 94 * 10**9, 3900e9, 300e9),
    "H100": Chip("H100", 989e12, 80 * 10**9, 3350e9, 450e9),
    "A100-SXM4-80GB": Chip("A100 80GB", 312e12, 80 * 10**9, 2039e9, 300e9),
    "A100": Chip("A100", 312e12, 40 * 10**9, 1555e9, 300e9),
}

# jax's `device_kind`
_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


def chip_of(device_kind: str) -> Chip | None:
    """Look up a device by what jax calls it; None where it is not in the tables."""
    if device_kind in _KINDS:
        return TPUS[_KINDS[device_kind]]
    return next((chip for name, chip in GPUS.items() if name in device_kind), None)


def peak_flops(device_kind: str) -> float | None:
    """Return a device's peak bfloat16 rate per second; None where it is not in the tables."""
    chip = chip_of(device_kind)
    return chip and chip.bf16_flops
