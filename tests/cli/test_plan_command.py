"""Plans of the pretraining step for devices that are not there: what each does stays the same on more of them."""

from pathlib import Path

import pytest

from clipjax.cli.adapt import nested
from clipjax.cli.config_files import merged, read_config
from clipjax.cli.plan import plan_config
from clipjax.parallel.topology import plan_devices

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pretrain.py"
PER_DEVICE = 8
SMALL = {
    "data.architecture.preset": "null",
    "data.architecture.image_size": 32, "data.architecture.patch_size": 8, "data.architecture.width": 64,
    "data.architecture.layers": 2, "data.architecture.heads": 2, "data.architecture.text_width": 64,
    "data.architecture.text_layers": 2, "data.architecture.text_heads": 2, "data.architecture.context_length": 24,
    "data.architecture.embed_dim": 40, "data.caption_length": 24,
}  # fmt: skip


def flags(data=1, fsdp=2, **changes):
    sizes = SMALL | {"data.batch_size": PER_DEVICE * data * fsdp, "run.data": data, "run.fsdp": fsdp} | changes
    return [f"{name}={value}" for name, value in sizes.items()]


@pytest.fixture
def plan(clipjax):
    """A function that plans the pod's configuration with small towers."""

    def run(*, config="vit_l14", topology="cpu:2", **changes):
        pairs = [part for pair in flags(**changes) for part in ("--set", pair)]
        return clipjax("plan", f"--config={CONFIG}:{config}", f"--topology={topology}", *pairs)

    return run


@pytest.fixture(scope="module")
def two_sizes():
    """The plans for two and for four devices, with as many pairs on each."""
    config = lambda **mesh: merged(read_config(f"{CONFIG}:vit_l14"), nested(flags(**mesh)))
    return [plan_config(config(data=n), plan_devices(f"cpu:{2 * n}")).as_dict() for n in (1, 2)]


def test_the_table_says_what_a_step_takes(plan):
    done = plan()
    assert done.status == 0, done.err
    for part in ("2 x virtual CPU", "memory: parameters", "memory: optimiser", "memory: batch", "FLOPs", "all-gather"):
        assert part in done.out


def test_more_devices_with_as_many_pairs_each_compute_as_much_each(two_sizes):
    few, many = two_sizes
    assert many["devices"] == 2 * few["devices"]
    assert many["flops"] == pytest.approx(few["flops"], rel=0.02)
    assert many["memory"]["roles"]["parameters"] == few["memory"]["roles"]["parameters"]


def test_no_collective_moves_the_logits(two_sizes):
    for found in two_sizes:
        batch = PER_DEVICE * found["devices"]
        moved = {shape for c in found["collectives"] for shape in c["shapes"]}
        assert any(f"[{batch}," in shape for shape in moved)  # the embeddings, which have to
        assert not [shape for shape in moved if f"{batch},{batch}]" in shape]


def test_the_table_of_tokens_is_fetched_and_embeddings_of_texts_stay(two_sizes):
    sides = [shape for found in two_sizes for c in found["collectives"] for shape in c["shapes"]]
    assert any("49408,64" in shape for shape in sides)
    assert not [shape for shape in sides if ",24,64]" in shape]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"data.batch_size": 15}, ["a batch of 15 does not divide over 2 devices; use 16"]),
        ({"run.fsdp": 3, "data.batch_size": 6}, ["fsdp=3 does not divide 2 devices"]),
        ({"data.colour": "red"}, ["data.colour"]),
        ({"topology": "v9:4x4"}, ["the chip 'v9' is not one of"]),
        ({"config": "vit_b99"}, ["no pretraining configuration 'vit_b99'"]),
        ({"data.architecture.heads": 3}, ["heads"]),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_in_one_line(plan, complains, changes, parts):
    complains(plan(**changes), *parts)


def test_only_pretraining_is_planned(clipjax, complains):
    other = CONFIG.with_name("finetune.py")
    complains(clipjax("plan", f"--config={other}", "--topology=cpu:2"), "pretraining")
