"""The shortest time that a chip's limits allow for given costs."""

from dataclasses import dataclass

from clipjax.parallel.chips import Chip
from clipjax.parallel.costs import Costs


@dataclass(frozen=True)
class Roofline:
    """Seconds per step at a chip's peak rates, each resource on its own.

    They overlap in the ideal case, so a step takes at least the longest of them. A measured step
    is slower: products rarely run at peak, and not all communication hides behind them.
    """

    compute: float
    memory: float
    communication: float

    @property
    def seconds(self) -> float:
        """The least time of a step."""
        return max(self.compute, self.memory, self.communication)

    @property
    def bound(self) -> str:
        """The resource that takes longest."""
        return max(("compute", "memory", "communication"), key=lambda name: getattr(self, name))

    @property
    def utilisation(self) -> float:
        """The share of the chip's peak FLOPs that a step at this speed uses, recomputation included."""
        return self.compute / self.seconds if self.seconds else 0.0


def roofline(costs: Costs, chip: Chip) -> Roofline:
    """Divide each cost by the chip's rate for it, communication one ring after the other."""
    return Roofline(
        compute=costs.flops / chip.bf16_flops,
        memory=costs.bytes_accessed / chip.hbm_bandwidth,
        communication=costs.wire_bytes / chip.interconnect_bandwidth,
    )
