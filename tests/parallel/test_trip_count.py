"""The lengths of compiled loops, with and without the compiler's own note of them."""

import re

import jax
import jax.numpy as jnp
import pytest

from clipjax.parallel.hlo import parse_hlo
from clipjax.parallel.trip_count import trip_count


def loops(text):
    module = parse_hlo(text)
    return [trip_count(module, module.entry, i) for i in module.entry.instructions if i.opcode == "while"]


def without_note(text):
    stripped = re.sub(r'"known_trip_count":\{[^}]*\}', '"nothing":{}', text)
    assert stripped != text
    return stripped


def compiled(function):
    return jax.jit(function).lower(jax.ShapeDtypeStruct((8, 8), jnp.float32)).compile().as_text()


@pytest.mark.parametrize("length", [1 + 1, 5, 12])
def test_noted_length_of_a_scan_is_used(length):
    text = compiled(lambda x: jax.lax.fori_loop(0, length, lambda _, x: x @ x, x))
    assert loops(text) == [length]


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (3, 10), (-4, 4)])
def test_length_is_read_off_the_condition(start, stop):
    text = compiled(lambda x: jax.lax.fori_loop(start, stop, lambda _, x: x @ x, x))
    assert loops(without_note(text)) == [stop - start]


def test_length_of_a_backward_scan_is_read_off_the_condition():
    def loss(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ x), None), x, length=6)[0].sum()

    assert loops(without_note(compiled(jax.grad(loss)))) == [6, 6]


def handwritten(direction, start, stop, step, operation="add"):
    return f"""HloModule m
%body (c: (s32[], f32[])) -> (s32[], f32[]) {{
  %c = (s32[], f32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %v = f32[] get-tuple-element(%c), index=1
  %step = s32[] constant({step})
  %next = s32[] {operation}(%i, %step)
  ROOT %t = (s32[], f32[]) tuple(%next, %v)
}}
%condition (d: (s32[], f32[])) -> pred[] {{
  %d = (s32[], f32[]) parameter(0)
  %j = s32[] get-tuple-element(%d), index=0
  %stop = s32[] constant({stop})
  ROOT %go = pred[] compare(%j, %stop), direction={direction}
}}
ENTRY %main (x: f32[]) -> (s32[], f32[]) {{
  %x = f32[] parameter(0)
  %start = s32[] constant({start})
  %init = (s32[], f32[]) tuple(%start, %x)
  ROOT %w = (s32[], f32[]) while(%init), condition=%condition, body=%body
}}
"""


@pytest.mark.parametrize(
    ("direction", "start", "stop", "step", "operation"),
    [
        ("LT", 0, 10, 3, "add"),
        ("LE", 0, 9, 3, "add"),
        ("GT", 10, 0, -3, "add"),
        ("GE", 9, 0, 2, "subtract"),
        ("LT", 5, 5, 1, "add"),
    ],
)
def test_counts_equal_those_of_running_it(direction, start, stop, step, operation):
    compare = {"LT": int.__lt__, "LE": int.__le__, "GT": int.__gt__, "GE": int.__ge__}[direction]
    counter, times = start, 0
    while compare(counter, stop):
        counter, times = counter + (step if operation == "add" else -step), times + 1
    assert loops(handwritten(direction, start, stop, step, operation)) == [times]


def test_a_bound_that_the_loop_carries_along_is_found():
    text = handwritten("LT", 0, 9, 1).replace("s32[], f32[]", "s32[], s32[]")
    text = text.replace("%stop = s32[] constant(9)", "%stop = s32[] get-tuple-element(%d), index=1")
    text = text.replace("%x = f32[] parameter(0)", "%x = s32[] constant(9)")
    assert loops(text) == [9]


def test_a_counter_that_flips_its_sign_has_no_length():
    text = handwritten("LT", 0, 9, 1, "subtract").replace("subtract(%i, %step)", "subtract(%step, %i)")
    assert loops(text) == [None]


@pytest.mark.parametrize(("direction", "step"), [("NE", 1), ("LT", -1), ("LT", 0)])
def test_a_loop_whose_end_is_not_plain_has_no_length(direction, step):
    assert loops(handwritten(direction, 0, 10, step)) == [None]
