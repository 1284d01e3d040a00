"""Decoding with a cache of keys and values against encoding the whole text anew for each token.

    python -m benchmarks.decoding --tokens 32 --batch 16
    python -m benchmarks.decoding --model gpt2 --tokens 32 --batch 8

Both choose the likeliest token, of random weights, after a prompt of 38 embeddings (CLIP's 37 tokens and an extra
one). What encodes anew sees exactly as many tokens as there are, and scores the last one alone. Prints one JSON line
with median seconds of a whole text in alternating runs, and whether the texts are the same.
"""

import argparse
import functools
import json

import jax
import jax.numpy as jnp

from benchmarks.timing import alternate, machine
from clipjax.models.causal_lm import CausalLM
from clipjax.models.config import LanguageConfig
from clipjax.models.decoding import greedy
from clipjax.models.shapes import Params

MODELS = {
    "small": LanguageConfig(4096, 128, 256, 4, 4, 1024, bos_token_id=4094, eos_token_id=4095),
    "gpt2": LanguageConfig(50257, 1024, 768, 12, 12, 3072),
}


def main() -> None:
    args = _parser().parse_args()
    model = CausalLM(MODELS[args.model])
    params = jax.jit(model.init)(jax.random.key(0))
    prompts = 0.02 * jax.random.normal(jax.random.key(1), (args.batch, args.prompt, model.config.width))
    functions = {
        "cached": lambda: jax.block_until_ready(greedy(model, params, prompts, max_tokens=args.tokens).tokens),
        "anew": lambda: jax.block_until_ready(encoded_anew(model, params, prompts, args.tokens)),
    }
    same = bool((functions["cached"]() == functions["anew"]()).all())
    seconds = alternate(functions, args.rounds)
    found = {"model": args.model, "tokens": args.tokens, "batch": args.batch, "prompt": args.prompt}
    found |= {name: round(value, 4) for name, value in seconds.items()}
    found |= {"times_faster": round(seconds["anew"] / seconds["cached"], 1), "same_texts": same, **machine()}
    print(json.dumps(found))


def encoded_anew(model: CausalLM, params: Params, prompts: jax.Array, tokens: int) -> jax.Array:
    """Decode greedily, one program for each length; texts of random weights never end."""
    whole, found = prompts, []
    for _ in range(tokens):
        token, whole = _longer(model, params, whole)
        found.append(token)
    return jnp.stack(found, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _longer(model: CausalLM, params: Params, whole: jax.Array) -> tuple[jax.Array, jax.Array]:
    token = jnp.argmax(model.head(params, model.states(params, whole)[:, -1]), axis=-1).astype(jnp.int32)
    return token, jnp.concatenate([whole, model.embed_tokens(params, token)[:, None]], axis=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", choices=list(MODELS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=38, help="embeddings before the text")
    parser.add_argument("--tokens", type=int, default=32, help="of each text")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


if __name__ == "__main__":
    main()
