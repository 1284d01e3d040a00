"""How often the body of a compiled while loop runs: XLA's own note where there is one, else read off the condition."""

import re
from dataclasses import dataclass

from clipjax.parallel.hlo import Computation, Instruction, Module

# Operations that hand an integer on; fusions are entered.
_TRANSPARENT = {"copy", "copy-done", "copy-start", "bitcast", "convert", "reshape", "broadcast"}


def trip_count(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """Count a while loop's iterations, or return None where that depends on data.

    A loop as `jax.lax.scan` and `fori_loop` make them compares a counter, which starts at a
    constant and grows by a constant, with a constant.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.backend_config)
    if known:
        return int(known.group(1))
    condition, body = (module.computations[loop.computation(name) or ""] for name in ("condition", "body"))
    comparison = _comparison(module, condition)
    if comparison is None:
        return None
    direction, left, right = comparison
    if isinstance(right, _Carried) and _is_handed_on(body, right.index):
        right = _initial(caller, loop, right.index)
    if not isinstance(left, _Carried) or not isinstance(right, int):
        return None
    start, step = _initial(caller, loop, left.index), _step(module, body, left.index)
    if start is None or not step:
        return None
    if direction == "LE":
        right, direction = right + 1, "LT"
    elif direction == "GE":
        right, direction = right - 1, "GT"
    if direction == "LT" and step > 0:
        return max(0, -((start - right) // step))
    if direction == "GT" and step < 0:
        return max(0, -((right - start) // -step))
    return None


@dataclass(frozen=True)
class _Carried:
    """An element of the loop's tuple."""

    index: int


def _comparison(module: Module, condition: Computation) -> tuple[str | None, "int | _Carried", "int | _Carried"] | None:
    """The condition's direction and its two sides, each a constant or an element of the carry."""
    root, scope, taken = condition.root, condition, None
    if root.opcode == "fusion":
        inner = module.computations[root.computation("calls") or ""]
        root, scope, taken = inner.root, inner, condition.operands(root)
    if root.opcode != "compare":
        return None
    sides = [_value(scope, operand, condition, taken) for operand in scope.operands(root)]
    left, right = sides
    if left is None or right is None:
        return None
    direction = root.attribute("direction")
    if isinstance(left, int):
        left, right = right, left
        direction = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE"}.get(direction or "", direction)
    return direction, left, right


def _value(
    scope: Computation, instruction: Instruction, around: Computation, taken: list[Instruction] | None
) -> int | _Carried | None:
    """Follow a value to a constant or an element of the carry, out of the fusion `scope` that takes `taken`."""
    while True:
        if instruction.opcode == "parameter" and taken is not None:
            scope, instruction, taken = around, taken[int(instruction.argument)], None
        elif instruction.opcode in _TRANSPARENT:
            instruction = scope.operands(instruction)[0]
        elif instruction.opcode == "get-tuple-element" and scope.operands(instruction)[0].opcode == "parameter":
            return _Carried(int(instruction.attribute("index") or 0))
        else:
            return _constant(instruction)


def _constant(instruction: Instruction) -> int | None:
    if instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.argument):
        return int(instruction.argument)
    return None


def _initial(caller: Computation, loop: Instruction, index: int) -> int | None:
    carry = caller.named[loop.operands[0]]
    if carry.opcode != "tuple":
        return None
    start = _value(caller, caller.named[carry.operands[index]], caller, None)
    return start if isinstance(start, int) else None


def _step(module: Module, body: Computation, index: int) -> int | None:
    """The constant that the body adds to the counter."""
    if body.root.opcode != "tuple":
        return None
    update, scope, taken = body.named[body.root.operands[index]], body, None
    while update.opcode in _TRANSPARENT:
        update = scope.operands(update)[0]
    if update.opcode == "fusion":
        inner = module.computations[update.computation("calls") or ""]
        update, scope, taken = inner.root, inner, body.operands(update)
    if update.opcode not in ("add", "subtract"):
        return None
    sides = [_value(scope, operand, body, taken) for operand in scope.operands(update)]
    if isinstance(sides[0], int) and update.opcode == "add":
        sides.reverse()
    counter, step = sides
    if counter != _Carried(index) or not isinstance(step, int):
        return None
    return -step if update.opcode == "subtract" else step


def _is_handed_on(body: Computation, index: int) -> bool:
    """Whether the body returns an element of the carry as it came."""
    return body.root.opcode == "tuple" and _value(body, body.named[body.root.operands[index]], body, None) == _Carried(
        index
    )
