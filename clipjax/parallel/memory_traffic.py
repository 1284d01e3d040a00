"""Estimate the bytes that one instruction of a compiled program moves to and from the device's main memory.

Each instruction that is not inside a fusion reads its operands and writes its results once. Slices count what they
touch, in-place updates what they change, and what already lies in on-chip memory counts nothing.
"""

from clipjax.parallel.hlo import Computation, Instruction, Module, Shape

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
    "opt-barrier", "add-dependency", "domain", "while", "conditional", "call", "async-start",
}  # fmt: skip
_SLICES = {"dynamic-slice", "slice", "gather"}
# Compiler calls that pass buffers on without touching them.
_PASS_ON = ("AsyncCollectiveStart", "AsyncCollectiveDone", "ConcatBitcast", "AllocateBuffer", "AssumeGather")


def memory_traffic(module: Module, computation: Computation, instruction: Instruction) -> int:
    """Estimate the main memory bytes of one instruction outside of fusions."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")) or _passes_on(instruction):
        return 0
    operands = computation.operands(instruction)
    if opcode == "fusion":
        inner = module.computations[instruction.computation("calls") or ""]
        read = sum(
            min(_main(operand.shapes), _touched(module, inner, inner.parameters[number]))
            for number, operand in enumerate(operands)
            if number in inner.parameters
        )
        return read + _written(module, inner, instruction.shapes)
    if opcode in _SLICES:
        return _in(operands[0], instruction.shapes) + _main(instruction.shapes)
    if opcode == "slice-start":
        # its type is ((source), destination, context)
        return _in(operands[0], instruction.shapes[1:2]) + _main(instruction.shapes[1:2])
    if opcode == "copy-start":
        # its type is (destination, source, context)
        return _main(instruction.shapes[:1]) + _main(operands[0].shapes)
    if opcode == "dynamic-update-slice":
        return _main(operands[1].shapes) + _in(operands[0], operands[1].shapes)
    if opcode == "scatter":
        return 2 * _in(operands[0], operands[-1].shapes) + _main(operands[1].shapes)
    results = instruction.shapes
    if opcode.endswith("-start"):  # a collective's: operands stand before the results in its type
        results = results[len([s for operand in operands for s in operand.shapes]) :] or results
    return sum(_main(operand.shapes) for operand in operands) + _main(results)


def _main(shapes: tuple[Shape, ...]) -> int:
    return sum(shape.bytes for shape in shapes if shape.space == 0)


def _in(buffer: Instruction, touched: tuple[Shape, ...]) -> int:
    """The bytes of `touched`, were they part of this buffer."""
    return sum(shape.bytes for shape in touched) if buffer.shapes[0].space == 0 else 0


def _passes_on(instruction: Instruction) -> bool:
    target = instruction.attribute("custom_call_target") or ""
    return instruction.opcode == "custom-call" and target.strip('"').startswith(_PASS_ON)


def _touched(module: Module, fused: Computation, value: Instruction) -> int:
    """How much of a value the instructions of a fused computation read."""
    whole, total = sum(shape.bytes for shape in value.shapes), 0
    for user in fused.users[value.name]:
        first = user.operands[0] == value.name
        if user.opcode == "tuple" or _passes_on(user) or _is_collective_step(user):
            continue
        if user.opcode in _SLICES and first:
            total += sum(shape.bytes for shape in user.shapes)
        elif user.opcode == "dynamic-update-slice" and first:
            continue
        elif user.opcode == "bitcast":
            total += _touched(module, fused, user)
        elif user.opcode == "fusion":
            inner = module.computations[user.computation("calls") or ""]
            places = [n for n, name in enumerate(user.operands) if name == value.name]
            total += sum(_touched(module, inner, inner.parameters[n]) for n in places)
        else:
            return whole
    return min(whole, total)


def _written(module: Module, fused: Computation, results: tuple[Shape, ...]) -> int:
    root = fused.root
    parts = fused.operands(root) if root.opcode == "tuple" else [root]
    if len(parts) != len(results):
        parts = [root] * len(results)
    return sum(_changed(module, fused, part, shape) for part, shape in zip(parts, results) if shape.space == 0)


def _changed(module: Module, fused: Computation, part: Instruction, shape: Shape) -> int:
    while part.opcode == "bitcast":
        part = fused.operands(part)[0]
    if part.opcode == "parameter" or _passes_on(part) or _is_collective_step(part):
        return 0
    if part.opcode == "dynamic-update-slice":
        return sum(s.bytes for s in fused.operands(part)[1].shapes)
    if part.opcode == "fusion" and len(part.shapes) == 1:
        inner = module.computations[part.computation("calls") or ""]
        return _changed(module, inner, inner.root, shape)
    return shape.bytes


def _is_collective_step(instruction: Instruction) -> bool:
    """Part of an asynchronous collective that the TPU compiler spreads over several fusions."""
    return "chain_id=" in instruction.attributes
