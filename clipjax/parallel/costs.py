"""Count what one run of a compiled program costs one device: operations, memory traffic, communication.

XLA's own `cost_analysis()` counts the body of a loop once; here it counts as often as it runs.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

from clipjax.parallel.collectives import Collective, as_collective
from clipjax.parallel.hlo import Computation, Instruction, Module, parse_hlo
from clipjax.parallel.matrix_flops import matrix_flops
from clipjax.parallel.memory_traffic import memory_traffic
from clipjax.parallel.trip_count import trip_count


@dataclass(frozen=True)
class Costs:
    """The costs of one run on one device.

    `flops` are those of matrix products and convolutions. `bytes_accessed` is an estimate of main
    memory traffic. `collectives` are in order of the bytes they put on the wire, the largest
    first. `uncounted_loops` names loops whose length depends on data; their bodies count once.
    """

    flops: float
    bytes_accessed: float
    collectives: tuple[Collective, ...]
    uncounted_loops: tuple[str, ...] = ()

    @property
    def wire_bytes(self) -> float:
        """What one device sends in all."""
        return sum(c.count * c.wire_bytes for c in self.collectives)

    def by_kind(self) -> dict[str, tuple[float, float]]:
        """The number of collectives of each kind, and the bytes of their payloads."""
        kinds: dict[str, tuple[float, float]] = {}
        for c in self.collectives:
            count, size = kinds.get(c.kind, (0, 0))
            kinds[c.kind] = (count + c.count, size + c.count * c.bytes)
        return kinds


def count_costs(text: str) -> Costs:
    """Count a program's costs from `jax.stages.Compiled.as_text()`.

    Of a conditional's branches the most expensive counts.

    Raises:
      ValueError: the text is not that of a compiled XLA program.
    """
    module = parse_hlo(text)
    tally = _Counting(module).computation(module.entry)
    collectives = [dataclasses.replace(c, count=count) for c, count in tally.collectives.items()]
    collectives.sort(key=lambda c: (-c.count * c.wire_bytes, str(c)))
    return Costs(tally.flops, tally.bytes, tuple(collectives), tuple(sorted(tally.uncounted)))


@dataclass
class _Tally:
    flops: float = 0
    bytes: float = 0
    collectives: Counter[Collective] = field(default_factory=Counter)
    uncounted: set[str] = field(default_factory=set)

    def add(self, other: "_Tally", times: int = 1) -> None:
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        for key, count in other.collectives.items():
            self.collectives[key] += times * count
        self.uncounted |= other.uncounted

    def at_least(self, other: "_Tally") -> None:
        self.flops, self.bytes = max(self.flops, other.flops), max(self.bytes, other.bytes)
        self.collectives |= other.collectives
        self.uncounted |= other.uncounted


class _Counting:
    def __init__(self, module: Module):
        self.module = module
        self.done: dict[str, _Tally] = {}

    def computation(self, computation: Computation) -> _Tally:
        if computation.name not in self.done:
            tally, channels = _Tally(), set()
            for instruction in computation.instructions:
                tally.bytes += memory_traffic(self.module, computation, instruction)
                self._work(computation, instruction, tally, channels)
            self.done[computation.name] = tally
        return self.done[computation.name]

    def _work(self, computation: Computation, instruction: Instruction, tally: _Tally, channels: set[str]) -> None:
        opcode = instruction.opcode
        if opcode == "while":
            times = trip_count(self.module, computation, instruction)
            if times is None:
                tally.uncounted.add(instruction.name)
            for name in ("condition", "body"):
                tally.add(self._called(instruction, name), 1 if times is None else times)
        elif opcode == "conditional":
            branches = _Tally()
            for name in _branches(instruction):
                branches.at_least(self.computation(self.module.computations[name]))
            tally.add(branches)
        elif opcode == "call":
            tally.add(self._called(instruction, "to_apply"))
        elif opcode == "async-start":
            tally.add(self._called(instruction, "calls"))
        elif opcode == "fusion":
            inner = self.module.computations[instruction.computation("calls") or ""]
            for fused in inner.instructions:
                self._work(inner, fused, tally, channels)
        else:
            tally.flops += matrix_flops(computation, instruction)
            self._communication(computation, instruction, tally, channels)

    def _communication(self, computation, instruction: Instruction, tally: _Tally, channels: set[str]) -> None:
        collective = as_collective(computation, instruction, self.module.devices)
        if collective is None:
            return
        if "chain_id=" in instruction.attributes:
            # The TPU compiler repeats an asynchronous collective in each fusion that moves it on.
            channel = instruction.attribute("channel_id") or instruction.name
            if channel in channels:
                return
            channels.add(channel)
        tally.collectives[collective] += 1

    def _called(self, instruction: Instruction, name: str) -> _Tally:
        return self.computation(self.module.computations[instruction.computation(name) or ""])


def _branches(instruction: Instruction) -> list[str]:
    listed = instruction.attribute("branch_computations")
    if listed is not None:
        return [name.strip().lstrip("%") for name in listed.split(",")]
    named = (instruction.computation(name) for name in ("true_computation", "false_computation"))
    return [name for name in named if name]
