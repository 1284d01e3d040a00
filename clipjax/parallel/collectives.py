"""Name the communication in a compiled program: kind, payload, how many devices take part, bytes on the wire."""

import dataclasses
import math
import re
from dataclasses import dataclass

from clipjax.parallel.hlo import Computation, Instruction, Shape

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip


@dataclass(frozen=True)
class Collective:
    """One kind of communication with one payload, and how often a step does it.

    `bytes` is the whole array that one group of devices exchanges: what an all-gather returns,
    what a reduce-scatter takes.
    """

    kind: str
    shapes: tuple[Shape, ...]
    group: int
    count: float = 1

    @property
    def bytes(self) -> int:
        """The size of the payload."""
        return sum(shape.bytes for shape in self.shapes)

    @property
    def dtype(self) -> str:
        """The type of the payload, of its first array where it has several."""
        return self.shapes[0].dtype

    @property
    def wire_bytes(self) -> float:
        """What each device sends, by the ring algorithms."""
        if self.kind in ("collective-permute", "collective-broadcast"):
            return self.bytes
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * self.bytes * (self.group - 1) / self.group

    def __str__(self) -> str:
        payload = " ".join(map(str, self.shapes[:3])) + (" ..." if len(self.shapes) > 3 else "")
        return f"{self.kind} {payload} over {self.group}"


def as_collective(computation: Computation, instruction: Instruction, devices: int) -> Collective | None:
    """Recognise a collective, whether it blocks or only starts here; None for all else, and for groups of one."""
    kind = instruction.opcode.removesuffix("-start")
    if kind not in KINDS:
        return None
    group = devices if kind == "collective-permute" else group_size(instruction, devices)
    if group < 2:
        return None
    shapes = tuple(
        dataclasses.replace(shape, space=0)
        for operand in computation.operands(instruction)
        for shape in operand.shapes
        if shape.bytes
    )
    if kind == "all-gather":
        axis = instruction.numbers("dimensions")[0]
        shapes = tuple(_longer(shape, axis, group) for shape in shapes)
    elif kind == "all-reduce" and _is_scattered(computation, instruction):
        kind = "reduce-scatter"
    return Collective(kind, shapes, group) if shapes else None


def group_size(instruction: Instruction, devices: int) -> int:
    """Count the devices of one group, in any of the notations that XLA prints."""
    found = re.search(r"replica_groups=(.*)", instruction.attributes)
    text = found.group(1) if found else ""
    if listed := re.match(r"\{\{([\d,]+)\}", text):
        return listed.group(1).count(",") + 1
    if strided := re.match(r"\[([\d,]+)\]<=", text):
        return math.prod(int(n) for n in strided.group(1).split(",")[1:])
    if named := re.match(r"mesh\[([^\]]*)\].*?\{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named.group(1))}
        # part of an axis is written 'axis':(before)size
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named.group(2))
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return devices


def _longer(shape: Shape, axis: int, times: int) -> Shape:
    return dataclasses.replace(shape, dims=(*shape.dims[:axis], shape.dims[axis] * times, *shape.dims[axis + 1 :]))


def _is_scattered(computation: Computation, instruction: Instruction) -> bool:
    """Whether each device keeps only its slice of the sum: how the TPU compiler writes a reduce-scatter."""
    users = computation.users[instruction.name]
    return computation.name.startswith("all-reduce-scatter") and all(user.opcode == "dynamic-slice" for user in users)
