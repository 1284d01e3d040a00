"""Floating-point operations of one compiled matrix product or convolution (one multiply-add is two)."""

import math
import re

import numpy as np

from clipjax.parallel.hlo import Computation, Instruction, Shape


def matrix_flops(computation: Computation, instruction: Instruction) -> int:
    """Count a dot, a convolution or a library call for one; everything else counts nothing.

    Elementwise work is left out, as in the utilisation that papers report.
    """
    if instruction.opcode == "dot":
        left = computation.operands(instruction)[0].shapes[0]
        return _dot(instruction.shapes[0], left, instruction.numbers("lhs_contracting_dims"))
    if instruction.opcode == "convolution":
        left, right = (operand.shapes[0] for operand in computation.operands(instruction))
        return _convolution(instruction, left, right)
    if instruction.opcode == "custom-call" and "__cublas" in (instruction.attribute("custom_call_target") or ""):
        contracted = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.backend_config)
        if contracted:
            left = computation.operands(instruction)[0].shapes[0]
            return _dot(instruction.shapes[0], left, tuple(int(n) for n in re.findall(r"\d+", contracted.group(1))))
    return 0


def _dot(out: Shape, left: Shape, contracted: tuple[int, ...]) -> int:
    return 2 * out.elements * math.prod(left.dims[axis] for axis in contracted)


def _convolution(instruction: Instruction, left: Shape, right: Shape) -> int:
    labels = re.split(r"_|->", instruction.attribute("dim_labels") or "")
    taps = 1
    for axis in (label for label in labels[0] if label.isdigit()):
        taps *= _taps(
            image=left.dims[labels[0].index(axis)],
            out=instruction.shapes[0].dims[labels[2].index(axis)],
            window=_window(instruction, int(axis)),
        )
    # feature groups are in the kernel's input features already; batch groups sum over part of the batch only
    groups = int(instruction.attribute("batch_group_count") or 1)
    batch = left.dims[labels[0].index("b")] // groups
    features = right.dims[labels[1].index("i")] * right.dims[labels[1].index("o")]
    return 2 * batch * features * taps


def _window(instruction: Instruction, axis: int) -> dict[str, int]:
    """One axis of `window={size=3x3 stride=2x2 pad=1_1x1_1 lhs_dilate=1x1 rhs_dilate=1x1}`."""
    fields = dict(field.split("=") for field in (instruction.attribute("window") or "").split())
    window = {"size": 1, "stride": 1, "lhs_dilate": 1, "rhs_dilate": 1}
    window |= {name: int(value.split("x")[axis]) for name, value in fields.items() if name in window}
    window["pad"] = int(fields["pad"].split("x")[axis].split("_")[0]) if "pad" in fields else 0
    return window


def _taps(image: int, out: int, window: dict[str, int]) -> int:
    """Pairs of output and kernel positions that meet a real input.

    Padding and the holes of a dilated input cost nothing. On TPUs batched products are written as
    convolutions whose windows are almost all holes: counting whole windows is off by a factor of thousands.
    """
    position = (
        np.arange(out)[:, None] * window["stride"]
        + np.arange(window["size"])[None, :] * window["rhs_dilate"]
        - window["pad"]
    )
    inside = (position >= 0) & (position < (image - 1) * window["lhs_dilate"] + 1)
    return int(np.sum(inside & (position % window["lhs_dilate"] == 0)))
