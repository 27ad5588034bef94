"""The looped model restated in NumPy: float64, one row, one token, one loop at a time.

Written from the published facts, not from the package: no cache arrays, no padding, no batch. Every
token is remembered as the list of what each of its loops left behind, and what a later token sees
of it is decided when it is looked at.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from sigma_jax.kernel import Ouro, OuroConfig, read_config

FIXTURE = Path(__file__).parent / "data" / "ouro_tiny"


# Models of the package, and their numbers --------------------------------------------------------


def published_name(path):
    """The checkpoint's name of a parameter of the package."""
    *modules, kind = [str(part) for part in path]
    prefix = "" if modules[0] == "lm_head" else "model."
    return prefix + ".".join([*modules, "bias" if kind == "bias" else "weight"])


def built(config, array_of, *, dtype=np.float32, kind=Ouro):
    """A model whose parameter at each path is `array_of(path, shape)`."""
    graph, state = nnx.split(nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0), dtype=dtype)))
    flat = {
        path: leaf.replace(jax.numpy.asarray(array_of(path, leaf.shape), dtype))
        for path, leaf in nnx.to_flat_state(state)
    }
    return nnx.merge(graph, nnx.from_flat_state(flat))


def fixture_model():
    """The published fixture, read by name."""
    stored = load_file(FIXTURE / "model.safetensors")

    def array_of(path, shape):
        return stored.pop(published_name(path))

    model = built(read_config(FIXTURE), array_of)
    assert not stored
    return model


def random_model(seed, *, loops=3, kv_heads=2, dtype=np.float32, gate=1.0, kind=Ouro, **changes):
    """A small model with mild random weights whose gate says something else of every token."""
    shape = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": kv_heads, "rope_theta": 1e4}
    shape |= {"max_position_embeddings": 256, "total_ut_steps": loops} | changes
    rng = np.random.default_rng(seed)

    def array_of(path, shape):
        if path[-1] == "weight":
            noise = rng.normal(size=shape[::-1]).T / np.sqrt(shape[1])
        else:
            noise = rng.normal(size=shape)
        if path[-1] == "scale":
            noise = 1.0 + 0.2 * noise
        return gate * noise if path[0] == "early_exit_gate" else noise

    return built(OuroConfig(**shape), array_of, dtype=dtype, kind=kind)


def weights(model):
    """Every parameter under its published name, matrices as [in, out]."""

    def array_of(path, leaf):
        array = np.asarray(leaf[...], np.float64)
        return array.T if path[-1] == "weight" else array

    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {published_name(path): array_of(path, leaf) for path, leaf in flat}


# One loop ----------------------------------------------------------------------------------------


def rms_norm(x, scale, epsilon):
    return x / np.sqrt(np.mean(x**2) + epsilon) * scale


def rotate(heads, position, theta):
    """Rotary positions on [heads, size]: entry i is paired with entry i + size / 2."""
    half = heads.shape[1] // 2
    turned = np.empty_like(heads)
    for pair in range(half):
        angle = position * theta ** (-2.0 * pair / heads.shape[1])
        a, b = heads[:, pair], heads[:, pair + half]
        turned[:, pair] = a * np.cos(angle) - b * np.sin(angle)
        turned[:, pair + half] = b * np.cos(angle) + a * np.sin(angle)
    return turned


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def one_loop(w, config, x, position, seen):
    """One pass over all layers. `seen[layer]` lists the (keys, values) of earlier tokens."""
    size, theta, epsilon = config.head_dim, config.rope_theta, config.rms_norm_eps
    share = config.num_attention_heads // config.num_key_value_heads
    own = []
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}."
        normed = rms_norm(x, w[at + "input_layernorm.weight"], epsilon)
        q, k, v = (
            (normed @ w[at + f"self_attn.{name}_proj.weight"]).reshape(-1, size) for name in "qkv"
        )
        q, k = rotate(q, position, theta), rotate(k, position, theta)
        own.append((k, v))
        visible = [*seen[layer], (k, v)]
        mixed = []
        for head in range(config.num_attention_heads):
            keys = np.array([pair[0][head // share] for pair in visible])
            values = np.array([pair[1][head // share] for pair in visible])
            mixed.append(softmax(keys @ q[head] / np.sqrt(size)) @ values)
        out = np.concatenate(mixed) @ w[at + "self_attn.o_proj.weight"]
        x = x + rms_norm(out, w[at + "input_layernorm_2.weight"], epsilon)
        normed = rms_norm(x, w[at + "post_attention_layernorm.weight"], epsilon)
        gate = normed @ w[at + "mlp.gate_proj.weight"]
        inner = gate / (1.0 + np.exp(-gate)) * (normed @ w[at + "mlp.up_proj.weight"])
        out = inner @ w[at + "mlp.down_proj.weight"]
        x = x + rms_norm(out, w[at + "post_attention_layernorm_2.weight"], epsilon)
    return rms_norm(x, w["model.norm.weight"], epsilon), own


def gate_of(w, state):
    return (state @ w["model.early_exit_gate.weight"] + w["model.early_exit_gate.bias"])[0]


# When to stop ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Rule:
    """An exit rule: its name, its number, its bounds."""

    name: str = "fixed"
    number: float = 0.0
    least: int = 1
    most: int = 99
    patience: int = 2


def stops(rule, w, states):
    """Whether the rule wants to stop after the last of `states` (the embedding stands first)."""
    loops = len(states) - 1
    if rule.name == "q":
        survival, reached = 1.0, 0.0
        for state in states[1:]:
            leaves = 1.0 / (1.0 + np.exp(-gate_of(w, state)))
            reached += survival * leaves
            survival *= 1.0 - leaves
        return rule.number < 1.0 and reached >= rule.number
    if rule.name == "difference":
        step = np.linalg.norm(states[-1] - states[-2]) / np.linalg.norm(states[-2])
        return loops > 1 and step < rule.number
    if rule.name == "acceleration":
        calm = 0
        for t in range(3, loops + 1):
            bend = np.linalg.norm(states[t] - 2.0 * states[t - 1] + states[t - 2])
            calm = calm + 1 if bend < rule.number * np.linalg.norm(states[t - 1]) else 0
        return calm >= rule.patience
    if rule.name == "kl":
        if loops < 2:
            return False
        now, before = (softmax(states[t] @ w["lm_head.weight"]) for t in (-1, -2))
        return np.sum(now * np.log(now / before)) < rule.number
    return False


# What is remembered ------------------------------------------------------------------------------


def view(token, loop, kept):
    """What loop `loop` sees of an earlier token: one (keys, values) a layer, or None."""
    if kept == "per_loop":
        return token[loop] if loop < len(token) else None
    if kept == "last_exited":
        return token[min(loop, len(token) - 1)]
    if kept == "shared":
        return token[-1]
    layers = range(len(token[0]))
    return [tuple(np.mean([own[i][j] for own in token], axis=0) for j in (0, 1)) for i in layers]


def read(w, config, ids, *, prompt, rule=None, skip=True, kept="last_exited", window=None):
    """Read a row. Returns the state that each token stopped at, and its depth.

    The first `prompt` tokens are the prompt: read to the bound, one slot a loop. `window` is how
    many earlier tokens are remembered, all unless given.
    """
    rule, memory, hidden, depths = rule or Rule(), [], [], []
    bound = min(rule.most, config.total_ut_steps)
    for position, token in enumerate(ids):
        in_prompt = position < prompt
        states, own, depth = [w["model.embed_tokens.weight"][token]], [], None
        for loop in range(config.total_ut_steps):
            sees = memory if window is None else memory[-window:]
            entries = [view(past, loop, "per_loop" if in_prompt else kept) for past in sees]
            entries = [entry for entry in entries if entry is not None]
            layers = range(config.num_hidden_layers)
            seen = [[entry[layer] for entry in entries] for layer in layers]
            state, left = one_loop(w, config, states[-1], position, seen)
            states.append(state)
            own.append(left)
            wants = stops(rule, w, states) and loop + 1 >= rule.least and not (in_prompt and skip)
            if depth is None and (wants or loop + 1 >= bound):
                depth = loop + 1
                if skip:
                    break
        memory.append(own)
        hidden.append(states[depth])
        depths.append(depth)
    return np.array(hidden), np.array(depths)
