"""The text of compiled programs, in the notations of several compilers."""

import pytest

from clipjax.parallel.collectives import as_collective
from clipjax.parallel.costs import count_costs
from clipjax.parallel.hlo import Shape, parse_hlo, parse_shapes


def program(*lines, before="", devices=4):
    body = "\n".join(f"  {line}" for line in lines)
    return (
        f"HloModule m, is_scheduled=true, num_partitions={devices}\n{before}\nENTRY %main () -> f32[] {{\n{body}\n}}\n"
    )


def collective(line, devices=8):
    module = parse_hlo(program("%x = f32[4,8]{1,0} parameter(0)", line, devices=devices))
    return as_collective(module.entry, module.entry.root, module.devices)


@pytest.mark.parametrize(
    ("text", "size"),
    [("pred[3]", 3), ("bf16[2,3]", 12), ("f8e4m3fn[5]", 5), ("s4[8]", 4), ("c64[2]", 16), ("token[]", 0), ("f32[]", 4)],
)
def test_sizes_of_types(text, size):
    assert [shape.bytes for shape in parse_shapes(text)] == [size]


def test_a_tuple_type_is_read_in_order_with_its_memory_spaces():
    text = "(bf16[12,8]{1,0:T(8,128)(2,1)S(1)}, (f32[]{:T(128)}, u32[2]{0}))"
    assert parse_shapes(text) == [Shape("bf16", (12, 8), 1), Shape("f32", ()), Shape("u32", (2,))]


def test_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        parse_hlo("HloModule m\n")


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2},{3,4,5}}", 3),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", 2),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=1,'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_0','axis_2'}", 8),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0':(2)2}", 2),
        ("replica_groups={}", 8),
    ],
)
def test_group_size_in_every_notation(groups, size):
    line = f"ROOT %r = f32[4,8]{{1,0}} all-reduce(%x), channel_id=1, {groups}, to_apply=%add"
    assert collective(line).group == size


def test_a_group_of_one_is_no_communication():
    assert collective("ROOT %r = f32[4,8]{1,0} all-reduce(%x), replica_groups={{0},{1}}, to_apply=%add") is None


@pytest.mark.parametrize(
    ("line", "payload"),
    [
        ("all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}", 16 * 8),
        ("all-gather-start(%x), replica_groups=[2,4]<=[8], dimensions={1}", 4 * 32),
        ("reduce-scatter(%x), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add", 4 * 8),
        ("all-reduce-start(%x), replica_groups=[2,4]<=[8], to_apply=%add", 4 * 8),
        ("all-to-all(%x), replica_groups=[2,4]<=[8], dimensions={0}", 4 * 8),
        ("collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}", 4 * 8),
    ],
)
def test_payload_is_the_whole_array_whether_blocking_or_started(line, payload):
    # the types of started collectives hold operands and contexts too; they do not matter
    found = collective(f"ROOT %r = (f32[4,8]{{1,0}}, f32[16,8]{{1,0}}, u32[]) {line}")
    assert found.kind == line.partition("(")[0].removesuffix("-start")
    assert found.bytes == 4 * payload


def test_several_arrays_in_one_collective_add_up():
    text = program(
        "%a = f32[4]{0} parameter(0)",
        "%b = bf16[6]{0} parameter(1)",
        "ROOT %r = (f32[4]{0}, bf16[6]{0}) all-reduce(%a, %b), replica_groups=[1,4]<=[4], to_apply=%add",
    )
    assert count_costs(text).by_kind() == {"all-reduce": (1, 4 * 4 + 2 * 6)}


def test_the_end_of_a_started_collective_is_not_counted_again():
    text = program(
        "%x = f32[4]{0} parameter(0)",
        "%s = (f32[4]{0}, f32[16]{0}) all-gather-start(%x), replica_groups=[1,4]<=[4], dimensions={0}",
        "ROOT %d = f32[16]{0} all-gather-done(%s)",
    )
    assert count_costs(text).by_kind() == {"all-gather": (1, 64)}


def test_a_wrapped_asynchronous_collective_counts_once():
    wrapped = (
        "%wrapped (p: f32[16]) -> f32[4] {\n  %p = f32[16]{0} parameter(0)\n"
        "  ROOT %r = f32[4]{0} reduce-scatter(%p), replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add\n}\n"
    )
    text = program(
        "%x = f32[16]{0} parameter(0)",
        "%s = ((f32[16]{0}), f32[4]{0}) async-start(%x), calls=%wrapped",
        "ROOT %d = f32[4]{0} async-done(%s), calls=%wrapped",
        before=wrapped,
    )
    assert count_costs(text).by_kind() == {"reduce-scatter": (1, 64)}


def test_a_collective_spread_over_fusions_by_the_tpu_compiler_counts_once():
    part = (
        "%part.{0} (p: f32[4]) -> f32[16] {{\n  %p.{0} = f32[4]{{0}} parameter(0)\n"
        "  ROOT %g.{0} = f32[16]{{0}} all-gather(%p.{0}), channel_id=7, replica_groups=[1,4]<=[4], dimensions={{0}}, "
        'frontend_attributes={{chain_id="5"}}\n}}\n'
    )
    text = program(
        "%x = f32[4]{0} parameter(0)",
        "%first = f32[16]{0} fusion(%x), kind=kCustom, calls=%part.0",
        "ROOT %last = f32[16]{0} fusion(%x), kind=kCustom, calls=%part.1",
        before=part.format(0) + part.format(1),
    )
    assert count_costs(text).by_kind() == {"all-gather": (1, 64)}


def test_an_all_reduce_of_which_each_device_keeps_a_slice_is_a_reduce_scatter():
    fused = (
        "%all-reduce-scatter.1 (p: f32[16]) -> f32[4] {\n  %p = f32[16]{0} parameter(0)\n"
        "  %r = f32[16]{0} all-reduce(%p), channel_id=7, replica_groups=[1,4]<=[4], to_apply=%add\n"
        "  %i = u32[] partition-id()\n"
        "  ROOT %d = f32[4]{0} dynamic-slice(%r, %i), dynamic_slice_sizes={4}\n}\n"
    )
    text = program(
        "%x = f32[16]{0} parameter(0)",
        "ROOT %f = f32[4]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1",
        before=fused,
    )
    assert count_costs(text).by_kind() == {"reduce-scatter": (1, 64)}


def test_a_gpu_library_product_counts_as_a_product():
    text = program(
        "%a = f32[15,33]{1,0} parameter(0)",
        "%b = f32[33,68]{1,0} parameter(1)",
        'ROOT %r = (f32[15,68]{1,0}, s8[0]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", '
        'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],'
        '"rhs_contracting_dimensions":["0"]}}}',
    )
    assert count_costs(text).flops == 2 * 15 * 33 * 68


def test_a_batched_product_written_as_a_convolution_of_holes_counts_as_a_product():
    """The TPU compiler writes attention so: window 64x8 with strides 63x7 over an image dilated by 64x8."""
    text = program(
        "%q = bf16[64,8,77,64]{3,2,1,0} parameter(0)",
        "%k = bf16[64,8,64,77]{3,2,1,0} parameter(1)",
        "ROOT %s = bf16[64,8,77,77]{3,2,1,0} convolution(%q, %k), "
        "window={size=64x8 stride=63x7 lhs_dilate=64x8}, dim_labels=01bf_01io->01bf",
    )
    assert count_costs(text).flops == 2 * 64 * 8 * 77 * 77 * 64


def test_on_chip_memory_is_not_main_memory():
    text = program(
        "%a = f32[8,8]{1,0} parameter(0)",
        "%b = f32[8,8]{1,0:S(1)} add(%a, %a)",
        "ROOT %c = f32[8,8]{1,0} multiply(%b, %b)",
    )
    assert count_costs(text).bytes_accessed == (2 + 1) * 4 * 64
