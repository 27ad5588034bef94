"""Generating text: prompts read in chunks, tokens drawn in compiled runs, rows that come and go."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._check import concrete, require_in
from .cache import Cache, empty_cache
from .canary import Adaptation, CanarySigns, start_canary
from .decoding import Depth, Step
from .model import Ouro
from .running_batch import (
    Chunk,
    Decoding,
    Finish,
    end_row,
    first_tokens,
    next_tokens,
    put_row,
    read_chunk,
)
from .sampling import NO_TOKEN, Sampling

_NARROWEST = 16
"""Prompts are padded to at least this many tokens, so that few lengths have to be compiled."""

_WHOLE = ("min_loops", "max_loops", "top_k", "repeat_last_n")
"""Numbers of policies and sampling that are whole; all others are float32."""

Prompts = Sequence[Sequence[int]]


class Generator:
    """Generates from a model. Everything heavy is compiled, once a shape, for all generators.

    **Arguments:** `model`; `capacity`, how many tokens a row of a batch remembers: a prompt must
    fit, and behind it the oldest are forgotten; `stop_ids`, tokens that end a row; `chunk`, how
    many tokens of a prompt are read at once, which bounds the memory that attention takes;
    `window`, how many recent ids are kept for penalties.

    **Raises** `ValueError` for a number below one or a stop id outside the vocabulary.
    """

    def __init__(
        self,
        model: Ouro,
        *,
        capacity: int,
        stop_ids: Sequence[int] = (),
        chunk: int = 512,
        window: int = 64,
    ):
        for name, value in (("capacity", capacity), ("chunk", chunk), ("window", window)):
            require_in(name, value, 1)
        self.config = model.config
        self.capacity, self.chunk, self.window = capacity, chunk, window
        self.stop_ids = tuple(int(stop) for stop in stop_ids)
        _require_ids("stop_ids", self.stop_ids, self.config.vocab_size)
        self._model = model
        self._leaves, self._structure = jax.tree.flatten(model)

    def start(
        self,
        prompts: Prompts,
        *,
        max_new_tokens: int | Sequence[int],
        depth: Depth = Depth(),
        sampling: Sampling = Sampling(),
        adaptation: Adaptation = Adaptation(),
        seeds: Sequence[int] | None = None,
        compact: bool = False,
        between: Callable[[], None] | None = None,
    ) -> tuple[Decoding, Chunk]:
        """Read prompts, padded on the left to a common width, and draw their first tokens.

        **Arguments:** `prompts`, token ids, one list a row; `max_new_tokens`, cut to what the
        model's context leaves; `depth`, `sampling`, `adaptation`, whose numbers are one for all
        rows or one a row; `seeds`, one a row (0, 1, … unless given): with its seed, a row's draws
        are the same whatever its neighbours; `compact`, True for a ring just large enough for the
        prompts, for a batch that is only made to be inserted into another; `between`, called
        between two chunks of long prompts.

        **Raises** `ValueError` for prompts that are empty, hold an id outside the vocabulary or are
        longer than the capacity or the model's context, and for numbers that are not one a row.
        """
        rows = self._check_prompts(prompts)
        widths = _widths(max(map(len, prompts)), self.chunk, self.capacity)
        limits = _one_a_row("max_new_tokens", max_new_tokens, rows, 1)
        left = [self.config.max_position_embeddings + 1 - len(prompt) for prompt in prompts]
        keys = _keys(_one_a_row("seeds", range(rows) if seeds is None else seeds, rows, 0))
        fresh = self._fresh(rows, depth, sampling, adaptation)
        cache = empty_cache(self._model, rows, sum(widths) if compact else self.capacity)
        step = self._read(prompts, widths, cache, fresh.depth, between)
        state = eqx.tree_at(
            lambda s: (s.cache, s.finish, s.remaining, s.keys, s.recent),
            fresh,
            (
                step.cache,
                jnp.full(rows, Finish.RUNNING, jnp.int32),
                jnp.asarray(np.minimum(limits, left), jnp.int32),
                keys,
                jnp.asarray(_aligned(prompts, self.window, NO_TOKEN)),
            ),
            is_leaf=lambda leaf: leaf is None,
        )
        return first_tokens(
            self._leaves,
            state,
            step.hidden,
            step.depth,
            structure=self._structure,
            stop_ids=self.stop_ids,
        )

    def empty(
        self,
        rows: int,
        *,
        depth: Depth = Depth(),
        sampling: Sampling = Sampling(),
        adaptation: Adaptation = Adaptation(),
    ) -> Decoding:
        """A batch whose rows are all free, to `insert` into.

        `depth` fixes for all of its life the kind of exit policy, whether loops are skipped, and
        the cache policy; the numbers come with each row that is inserted.
        """
        require_in("rows", rows, 1)
        state = self._fresh(rows, depth, sampling, adaptation)
        slots = depth.cache.slots(self.config.total_ut_steps)
        cache = empty_cache(self._model, rows, self.capacity, slots=slots)
        return eqx.tree_at(lambda s: s.cache, state, cache, is_leaf=lambda leaf: leaf is None)

    def advance(self, state: Decoding, steps: int) -> tuple[Decoding, Chunk]:
        """Draw `steps` further tokens of every running row, or fewer if all have ended before.

        `state` is used up. Compiled once for each number of steps.
        """
        require_in("steps", steps, 1)
        return next_tokens(
            self._leaves,
            state,
            structure=self._structure,
            steps=steps,
            stop_ids=self.stop_ids,
        )

    def insert(self, state: Decoding, row: int, other: Decoding) -> Decoding:
        """Put the only row of `other` into `row` of a running batch. `state` is used up.

        **Raises** `ValueError` for a row that is not there, another batch of more than one row,
        with a larger ring or of another kind of depth.
        """
        _require_row(state, row)
        if other.token.shape != (1,) or other.cache.capacity > state.cache.capacity:
            raise ValueError(
                f"other must hold one row of at most {state.cache.capacity} columns; got "
                f"{other.token.shape[0]} of {other.cache.capacity}."
            )
        if jax.tree.structure(state) != jax.tree.structure(other):
            raise ValueError(
                f"other must be of the batch's kind, {_kind(state)}; got {_kind(other)}."
            )
        return put_row(state, jnp.asarray(row, jnp.int32), other)

    def release(self, state: Decoding, row: int) -> Decoding:
        """Give up a row, so that no more is drawn of it. `state` is used up.

        **Raises** `ValueError` for a row that is not there.
        """
        _require_row(state, row)
        return end_row(state, jnp.asarray(row, jnp.int32))

    def _check_prompts(self, prompts: Prompts) -> int:
        if len(prompts) == 0:
            raise ValueError("prompts must hold at least one prompt.")
        context = min(self.capacity, self.config.max_position_embeddings)
        for row, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= context:
                raise ValueError(
                    f"prompts[{row}] must have 1 to {context} tokens, the context; got "
                    f"{len(prompt)}."
                )
            _require_ids(f"prompts[{row}]", prompt, self.config.vocab_size)
        return len(prompts)

    def _read(
        self,
        prompts: Prompts,
        widths: list[int],
        cache: Cache,
        depth: Depth,
        between: Callable[[], None] | None,
    ) -> Step:
        """Read prompts in chunks of `widths`; what the last one gave."""
        ids = _aligned(prompts, sum(widths), NO_TOKEN)
        real = ids != NO_TOKEN
        ids = np.where(real, ids, 0)
        step = None
        for begin, end in pairwise(np.cumsum([0, *widths])):
            if step is not None and between is not None:
                between()
            step = read_chunk(
                self._leaves,
                cache,
                ids[:, begin:end],
                real[:, begin:end],
                depth,
                structure=self._structure,
                first=step is None,
            )
            cache = step.cache
        assert step is not None
        return step

    def _fresh(
        self, rows: int, depth: Depth, sampling: Sampling, adaptation: Adaptation
    ) -> Decoding:
        """Free rows, without a cache. Every array is new: the batch's memory is used over."""
        if depth.policy.max_loops is None:
            loops = self.config.total_ut_steps
            depth = eqx.tree_at(
                lambda d: d.policy.max_loops, depth, loops, is_leaf=lambda leaf: leaf is None
            )
        window = concrete(sampling.repeat_last_n)
        if window is not None and (window > self.window).any():
            raise ValueError(
                f"repeat_last_n must be at most the generator's window of {self.window}; got "
                f"{window.max()}."
            )
        return Decoding(
            cache=None,  # pyright: ignore[reportArgumentType]
            token=jnp.zeros(rows, jnp.int32),
            finish=jnp.full(rows, Finish.RELEASED, jnp.int32),
            remaining=jnp.zeros(rows, jnp.int32),
            produced=jnp.zeros(rows, jnp.int32),
            keys=_keys(np.zeros(rows, int)),
            recent=jnp.full((rows, self.window), NO_TOKEN, jnp.int32),
            depth=_spread("depth", depth, rows),
            sampling=_spread("sampling", sampling, rows),
            adaptation=_spread("adaptation", adaptation, rows),
            canary=jax.tree.map(jnp.copy, start_canary(rows)),
        )


class Generated(NamedTuple):
    """What `generate` returns: one entry a row in every list."""

    tokens: list[list[int]]
    """Without the stop id that ended the row."""
    depths: list[list[int]]
    """How many loops the prediction of each token had."""
    finish: list[Finish]
    signs: list[CanarySigns]
    """What the canary saw, NumPy arrays of [tokens]."""

    @property
    def diverged(self) -> list[bool]:
        """Whether each row ran to its length limit."""
        return [reason == Finish.LENGTH for reason in self.finish]


def generate(
    model: Ouro,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    depth: Depth = Depth(),
    sampling: Sampling = Sampling(),
    adaptation: Adaptation = Adaptation(),
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    capacity: int | None = None,
) -> Generated:
    """Generate behind every prompt until a stop id or `max_new_tokens`.

    Row i draws with seed `seed` + i, and its tokens do not depend on the other rows.

    **Arguments:** `capacity`, how many tokens a row remembers, by default all; for the others see
    `Generator`.

    **Raises** `ValueError` as `Generator.start` does, and `FloatingPointError` if the model gives
    logits that are not finite.
    """
    longest = max(map(len, prompts), default=1)
    context = model.config.max_position_embeddings
    if capacity is None:
        capacity = min(context, longest + max(int(max_new_tokens), 1))
    window = max(64, int(np.max(sampling.repeat_last_n)))
    generator = Generator(model, capacity=capacity, stop_ids=stop_ids, window=window)
    state, chunk = generator.start(
        prompts,
        max_new_tokens=max_new_tokens,
        depth=depth,
        sampling=sampling,
        adaptation=adaptation,
        seeds=range(seed, seed + len(prompts)),
    )
    chunks = [jax.device_get(chunk)]
    while (chunks[-1].finish == Finish.RUNNING).any():
        state, chunk = generator.advance(state, 64)
        chunks.append(jax.device_get(chunk))
    return _gathered(chunks, generator.stop_ids)


def _gathered(chunks: list[Chunk], stop_ids: tuple[int, ...]) -> Generated:
    columns = [chunk._replace(finish=chunk.tokens) for chunk in chunks]
    whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *columns)
    finish = [Finish(int(reason)) for reason in chunks[-1].finish]
    if Finish.NOT_FINITE in finish:
        broken = [row for row, reason in enumerate(finish) if reason is Finish.NOT_FINITE]
        raise FloatingPointError(f"the model's logits are not finite in rows {broken}.")
    kept = (whole.tokens != NO_TOKEN) & ~np.isin(whole.tokens, stop_ids)
    rows = range(len(finish))
    return Generated(
        tokens=[whole.tokens[row][kept[row]].tolist() for row in rows],
        depths=[whole.depths[row][kept[row]].tolist() for row in rows],
        finish=finish,
        signs=[jax.tree.map(lambda x, r=row: x[r][kept[r]], whole.signs) for row in rows],
    )


def _widths(longest: int, chunk: int, capacity: int) -> list[int]:
    """The widths of the chunks that prompts are read in; the first takes the padding."""
    whole = (longest - 1) // chunk
    rest = longest - whole * chunk
    padded = max(1 << (rest - 1).bit_length(), _NARROWEST)
    return [min(padded, chunk, capacity - whole * chunk), *[chunk] * whole]


def _aligned(prompts: Prompts, width: int, padding: int) -> np.ndarray:
    """The last `width` tokens of every prompt, `padding` before them."""
    table = np.full((len(prompts), width), padding, np.int32)
    for row, prompt in enumerate(prompts):
        last = prompt[-width:]
        table[row, width - len(last) :] = last
    return table


def _spread(name: str, numbers: Any, rows: int) -> Any:
    """The same with every number as a new array, one entry a row."""

    def spread(path: Any, leaf: Any) -> jax.Array:
        whole = getattr(path[-1], "name", None) in _WHOLE
        array = np.asarray(leaf, np.int32 if whole else np.float32)
        if array.shape not in ((), (rows,)):
            raise ValueError(
                f"every number of {name} must be one for all rows or one for each of the {rows}; "
                f"got shape {array.shape}."
            )
        return jnp.array(np.broadcast_to(array, (rows,)))

    return jax.tree_util.tree_map_with_path(spread, numbers)


def _one_a_row(name: str, value: Any, rows: int, least: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.shape not in ((), (rows,)):
        raise ValueError(
            f"{name} must be a whole number, or one for each of {rows} rows; got {value!r}."
        )
    require_in(name, array, least)
    return np.broadcast_to(array, (rows,))


def _keys(seeds: np.ndarray) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def _require_ids(name: str, ids: Sequence[int], vocabulary: int) -> None:
    array = np.asarray(ids)
    if array.size and (
        array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= vocabulary
    ):
        raise ValueError(f"{name} must hold token ids from 0 to {vocabulary - 1}; got {ids!r}.")


def _require_row(state: Decoding, row: int) -> None:
    rows = state.token.shape[0]
    if not 0 <= row < rows:
        raise ValueError(f"row must lie in [0, {rows - 1}]; got {row}.")


def _kind(state: Decoding) -> str:
    depth = state.depth
    return f"{type(depth.policy).__name__}, skip={depth.skip}, {depth.cache.name}"
