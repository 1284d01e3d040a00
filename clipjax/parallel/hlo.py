"""Read the text of a compiled XLA program: computations, their instructions, types and attributes.

What an instruction costs is `clipjax.parallel.costs`' business.
"""

import functools
import math
import re
from dataclasses import dataclass

_LEAF = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<= ]*)\](?:\{([^}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([^\s=]+) = ")
_COMMENT = re.compile(r"/\*.*?\*/")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_OPERAND = re.compile(r"%([\w.\-]+)")


@dataclass(frozen=True)
class Shape:
    """One array of an instruction's type. `space` is 0 for the device's main memory."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def elements(self) -> int:
        """The number of entries."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """The size without the padding that a device's tiling may add."""
        return (self.elements * _bits(self.dtype) + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclass(frozen=True)
class Instruction:
    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    argument: str
    """What stands between the parentheses: a constant's value, a parameter's number."""
    attributes: str
    backend_config: str
    is_root: bool

    def attribute(self, name: str) -> str | None:
        """Return an attribute's text up to the next comma, or what its braces hold."""
        found = re.search(rf"(?:^|, ){name}=(?:\{{([^}}]*)\}}|([^,{{\s]+))", self.attributes)
        return None if found is None else found.group(1) if found.group(1) is not None else found.group(2)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return an attribute that lists dimensions, empty when it is not there."""
        return tuple(int(n) for n in re.findall(r"\d+", self.attribute(name) or ""))

    def computation(self, name: str) -> str | None:
        """Return the computation that an attribute names."""
        found = self.attribute(name)
        return found.lstrip("%") if found else None


@dataclass(frozen=True, eq=False)
class Computation:
    name: str
    instructions: tuple[Instruction, ...]

    @functools.cached_property
    def named(self) -> dict[str, Instruction]:
        """The instructions by name."""
        return {i.name: i for i in self.instructions}

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """The parameters by number."""
        return {int(i.argument): i for i in self.instructions if i.opcode == "parameter"}

    @functools.cached_property
    def users(self) -> dict[str, tuple[Instruction, ...]]:
        """For each name, the instructions that take it."""
        found: dict[str, list[Instruction]] = {i.name: [] for i in self.instructions}
        for instruction in self.instructions:
            for operand in dict.fromkeys(instruction.operands):
                found.setdefault(operand, []).append(instruction)
        return {name: tuple(users) for name, users in found.items()}

    @property
    def root(self) -> Instruction:
        """The instruction whose value the computation returns."""
        return next((i for i in self.instructions if i.is_root), self.instructions[-1])

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """Look up what an instruction takes."""
        return [self.named[name] for name in instruction.operands if name in self.named]


@dataclass(frozen=True, eq=False)
class Module:
    computations: dict[str, Computation]
    entry: Computation
    devices: int


def parse_hlo(text: str) -> Module:
    """Read what `jax.stages.Compiled.as_text()` prints.

    Raises:
      ValueError: no entry computation in the text.
    """
    computations: dict[str, Computation] = {}
    entry, name, lines = None, None, []
    for line in text.splitlines():
        if name is None:
            header = _HEADER.match(line)
            if header and not line.startswith("HloModule"):
                name, lines = header.group(2), []
                entry = name if header.group(1) else entry
        elif line.startswith("}"):
            computations[name] = Computation(name, tuple(filter(None, map(_instruction, lines))))
            name = None
        else:
            lines.append(line)
    if entry is None:
        raise ValueError("no ENTRY computation: this is not the text of a compiled XLA program")
    partitions, replicas = (
        int(found.group(1)) if (found := re.search(rf"\b{key}=(\d+)", text[: text.find("\n")])) else 1
        for key in ("num_partitions", "replica_count")
    )
    return Module(computations, computations[entry], partitions * replicas)


def _instruction(line: str) -> Instruction | None:
    head = _INSTRUCTION.match(line)
    if head is None:
        return None
    rest = _COMMENT.sub("", line[head.end() :]) if "/*" in line else line[head.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
    shapes, rest = rest[:end], rest[end:].lstrip()
    opening = rest.find("(")
    closing = _closing(rest, opening)
    argument = rest[opening + 1 : closing]
    attributes, _, backend_config = rest[closing + 1 :].removeprefix(", ").partition("backend_config=")
    return Instruction(
        name=head.group(2),
        opcode=rest[:opening],
        shapes=tuple(parse_shapes(shapes)),
        operands=tuple(_OPERAND.findall(argument)) if "%" in argument else (),
        argument=argument,
        attributes=attributes.partition("metadata={")[0],
        backend_config=backend_config,
        is_root=head.group(1) is not None,
    )


def parse_shapes(text: str) -> list[Shape]:
    """Read the arrays of a type, those of nested tuples in order."""
    return [
        Shape(
            dtype,
            tuple(int(n.strip(" <=")) for n in dims.split(",") if n.strip()),
            int(space.group(1)) if (space := _MEMORY_SPACE.search(layout)) else 0,
        )
        for dtype, dims, layout in _LEAF.findall(text)
    ]


def _closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "(":
            depth += 1
        elif text[position] == ")":
            depth -= 1
            if depth == 0:
                return position
    return len(text)


@functools.cache
def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    width = re.match(r"[a-z]+(\d+)", dtype)
    return int(width.group(1)) if width else 0
