"""clipjax plan --config=configs/pretrain.py:vit_l14 --topology=v5e:16x16"""

import argparse
from typing import TYPE_CHECKING, Any

from clipjax.cli.options import add_json, given
from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.parallel.plan import Plan


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="compile a pretraining step for a TPU pod that need not be there: memory, traffic, time",
        description="Compile the training step of a pretraining configuration for a TPU topology (needs the extra "
        "`plan`, and no TPU) or for virtual CPU devices, and say what it costs each chip.",
    )
    parser.add_argument("--config", required=True, type=given, metavar="FILE[:ARGUMENT]", help="a configuration")
    parser.add_argument(
        "--topology", required=True, type=given, metavar="NAME", help="v5e:16x16, v5p:4x4x4, v6e:8x8, or cpu:8"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change the configuration; repeatable"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.adapt import nested
    from clipjax.cli.config_files import merged, read_config
    from clipjax.cli.console import print_json, working
    from clipjax.parallel.topology import plan_devices

    devices = plan_devices(args.topology)
    with working(f"compiling for {args.topology}"):
        plan = plan_config(merged(read_config(args.config), nested(args.set)), devices)
    if args.json:
        print_json({"config": args.config, "topology": args.topology, **plan.as_dict()})
    else:
        print(plan.text())


def plan_config(config: dict[str, Any], devices) -> "Plan":
    """Plan the step of a pretraining configuration: real shapes, no numbers.

    Raises:
      ConfigError: not a pretraining configuration, a mesh that does not fit, or a step that cannot fit the memory.
    """
    import jax
    import jax.numpy as jnp

    from clipjax.cli.pretrain_files import PretrainFiles, abstract_model
    from clipjax.cli.run_settings import RunSettings
    from clipjax.methods.contrastive import clamp_logit_scale
    from clipjax.methods.pretrain import Config, pretrain_objective
    from clipjax.parallel.chips import chip_of
    from clipjax.parallel.mesh import check_batch, make_mesh, rows
    from clipjax.parallel.plan import plan_step
    from clipjax.parallel.rules import FSDP, REPLICATED
    from clipjax.training.settings import from_mapping
    from clipjax.training.state import initial_state
    from clipjax.training.step import Program, train_step

    rest = dict(config)
    if rest.pop("method", None) != "pretrain":
        raise ConfigError("plan works on pretraining configurations; give configs/pretrain.py")
    settings = from_mapping(RunSettings, rest.pop("run", {}), "run.")
    files = from_mapping(PretrainFiles, rest.pop("data", {}), "data.")
    config_ = from_mapping(Config, rest)
    mesh = make_mesh(data=settings.data, fsdp=settings.fsdp, devices=devices)
    batch_size = sum(part.rows for part in files.sources) or files.batch_size
    check_batch(mesh, batch_size)
    model = abstract_model(files)
    objective = pretrain_objective(model, config_, mesh)
    program = Program(objective, config_.optimizer.structure(), clamp_logit_scale, mesh, FSDP, REPLICATED)
    params = dict(model.param_shapes())
    if config_.loss == "siglip":
        params["logit_bias"] = jax.ShapeDtypeStruct((), jnp.float32)

    def start(params):
        optimizer = config_.optimizer
        return initial_state(params, optimizer.init(params), {}, averaged=optimizer.ema is not None, seed=0)

    state = jax.eval_shape(start, params)
    placed = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    state = jax.tree.map(placed, state, program.layout(state))
    side, length = model.config.image_size, min(files.caption_length, model.config.context_length)
    batch = {
        "images": jax.ShapeDtypeStruct((batch_size, side, side, 3), jnp.float32, sharding=rows(mesh)),
        "tokens": jax.ShapeDtypeStruct((batch_size, length), jnp.int32, sharding=rows(mesh)),
    }
    numbers = jax.eval_shape(lambda: config_.optimizer.numbers(config_.steps))
    step = jax.jit(lambda state, batch, numbers: train_step(program, state, {}, batch, numbers), donate_argnums=0)
    roles = {"parameters": state.trainable, "optimiser": (state.optimizer, state.average), "batch": batch}
    return plan_step(step, (state, batch, numbers), chip_of(devices[0].device_kind), roles=roles)
