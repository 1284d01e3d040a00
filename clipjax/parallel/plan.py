"""Compile a step for devices that need not be there, and say what it will cost each of them."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from clipjax.errors import ConfigError
from clipjax.parallel.chips import Chip
from clipjax.parallel.collectives import Collective
from clipjax.parallel.costs import Costs, count_costs
from clipjax.parallel.roofline import Roofline, roofline


@dataclass(frozen=True)
class Memory:
    """Bytes on each device. `roles` split the arguments; what tiling adds to them is `padding`.

    `outputs` are those that do not take the place of a donated argument; `temporaries` hold
    activations, gradients and gathered parameters at the worst moment.
    """

    roles: tuple[tuple[str, int], ...]
    padding: int
    outputs: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        """The bytes of all parts."""
        return sum(size for _, size in self.roles) + self.padding + self.outputs + self.temporaries + self.program


@dataclass(frozen=True)
class Plan:
    """What one step costs each of `devices` devices. `chip` and `roofline` are None for virtual CPU devices."""

    devices: int
    chip: Chip | None
    memory: Memory
    costs: Costs
    roofline: Roofline | None

    @property
    def fits(self) -> bool | None:
        """Whether the memory suffices; None where the chip's is not known."""
        return None if self.chip is None else self.memory.total <= self.chip.hbm_bytes

    def largest_collectives(self, count: int = 5) -> tuple[Collective, ...]:
        """Return the collectives with the largest payloads."""
        return tuple(sorted(self.costs.collectives, key=lambda c: (-c.bytes, str(c)))[:count])

    def rows(self) -> list[tuple[str, str]]:
        """Return the plan as pairs of what and how much, for a table."""
        memory, costs = self.memory, self.costs
        named = [*memory.roles, ("padding", memory.padding), ("outputs", memory.outputs)]
        named += [("activations and temporaries", memory.temporaries), ("program", memory.program)]
        rows = [("devices", f"{self.devices} x {self.chip.name if self.chip else 'virtual CPU'}")]
        rows += [(f"memory: {name}", in_bytes(size)) for name, size in named if size]
        rows.append(("memory: total", in_bytes(memory.total)))
        if self.chip:
            share = memory.total / self.chip.hbm_bytes
            verdict = "fits" if self.fits else "does NOT fit"
            rows[-1] = (
                "memory: total",
                f"{in_bytes(memory.total)} of {in_bytes(self.chip.hbm_bytes)} ({share:.0%}, {verdict})",
            )
        rows += [("FLOPs", f"{costs.flops:.4g}"), ("memory traffic", in_bytes(costs.bytes_accessed))]
        for kind, (count, size) in sorted(costs.by_kind().items()):
            rows.append((kind, f"{count:,.0f} x, {in_bytes(size)}"))
        rows += [(f"large: {c}", f"{c.count:,.0f} x {in_bytes(c.bytes)}") for c in self.largest_collectives()]
        if self.roofline:
            for name in ("compute", "memory", "communication"):
                rows.append((f"time: {name}", f"{1e3 * getattr(self.roofline, name):.2f} ms"))
            rows.append(
                ("time: step at least", f"{1e3 * self.roofline.seconds:.2f} ms, bound by {self.roofline.bound}")
            )
            rows.append(("utilisation at most", f"{self.roofline.utilisation:.0%}"))
        if costs.uncounted_loops:
            rows.append(("loops of unknown length", f"{len(costs.uncounted_loops)}, counted once"))
        return rows

    def text(self) -> str:
        """Draw the plan as a table in plain text; all numbers are per device."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers in a form that JSON can hold."""
        costs = self.costs
        return {
            "devices": self.devices,
            "chip": self.chip and dataclasses.asdict(self.chip),
            "memory": {
                "roles": dict(self.memory.roles),
                **{
                    name: getattr(self.memory, name)
                    for name in ("padding", "outputs", "temporaries", "program", "total")
                },
            },
            "fits": self.fits,
            "flops": costs.flops,
            "bytes_accessed": costs.bytes_accessed,
            "wire_bytes": costs.wire_bytes,
            "collectives": [
                {
                    "kind": c.kind,
                    "shapes": [str(shape) for shape in c.shapes],
                    "dtype": c.dtype,
                    "devices": c.group,
                    "count": c.count,
                    "bytes": c.bytes,
                }
                for c in costs.collectives
            ],
            "roofline": self.roofline
            and {
                **dataclasses.asdict(self.roofline),
                "seconds": self.roofline.seconds,
                "bound": self.roofline.bound,
                "utilisation": self.roofline.utilisation,
            },
            "uncounted_loops": list(costs.uncounted_loops),
        }


def plan_step(step, arguments: Sequence[Any], chip: Chip | None, *, roles: Mapping[str, Any] | None = None) -> Plan:
    """Compile a jitted step for the devices of its arguments' shardings and count what it costs.

    `arguments` are pytrees of `jax.ShapeDtypeStruct` with a NamedSharding at each leaf (static
    arguments as they are). `roles` name parts of them, such as parameters, optimiser and batch;
    without it they are all "arguments".

    Raises:
      ConfigError: the step does not fit the chip's memory; the message says how much it needs.
    """
    try:
        compiled = step.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        raise _explained(error) from error
    return plan_compiled(compiled, chip, roles={"arguments": arguments} if roles is None else roles)


def plan_compiled(compiled: jax.stages.Compiled, chip: Chip | None, *, roles: Mapping[str, Any]) -> Plan:
    """Count what a compiled step costs each of its devices."""
    costs = count_costs(compiled.as_text() or "")
    sizes = tuple((name, bytes_per_device(tree)) for name, tree in roles.items())
    found: Any = compiled.memory_analysis()
    memory = Memory(
        roles=sizes,
        padding=max(0, found.argument_size_in_bytes - sum(size for _, size in sizes)),
        outputs=max(0, found.output_size_in_bytes - found.alias_size_in_bytes),
        temporaries=found.temp_size_in_bytes,
        program=found.generated_code_size_in_bytes,
    )
    shardings = jax.tree.leaves(compiled.input_shardings) or jax.tree.leaves(compiled.output_shardings)
    devices = len(shardings[0].device_set) if shardings else 1
    return Plan(devices, chip, memory, costs, chip and roofline(costs, chip))


def bytes_per_device(tree: Any) -> int:
    """Add up what the leaves of a pytree take on one device, each split as its sharding says."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            sharding = getattr(leaf, "sharding", None)
            shape = sharding.shard_shape(leaf.shape) if sharding is not None else leaf.shape
            total += math.prod(shape) * leaf.dtype.itemsize
    return total


def in_bytes(size: float) -> str:
    """Write a number of bytes with a unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def _explained(error: RuntimeError) -> Exception:
    message = str(error)
    if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
        return error
    amounts = re.search(r"Used (\S+) of (\S+) hbm", message) or re.search(
        r"\(([\d.]+\w)\) exceeds \D+\(([\d.]+\w)\)", message
    )
    needs = f" (it needs {amounts.group(1)}, there are {amounts.group(2)})" if amounts else ""
    return ConfigError(
        f"the step does not fit the chips' memory{needs}; use more chips on the fsdp axis, a smaller batch, "
        "microbatches, or remat='full'"
    )
