"""Work on many lanes in one compiled call: in batches that stay in cache, on every device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree


def in_batches(
    function: Callable[[PyTree], PyTree], lanes: PyTree, batch_size: int, multiple: int = 1
) -> PyTree:
    """`function(lanes)`, computed batch by batch over the leading axis, sharded over all devices.

    `function` maps a pytree whose leaves are `[batch, ...]` to another; every leaf of `lanes` has
    the same leading axis. Batches are of equal size, `batch_size` at most and a multiple of
    `multiple`; the last is filled up with copies of the last lane.

    **Raises** `ValueError` for leaves without a common leading axis, or a batch size below one.
    """
    size = leading_size(lanes)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
    devices = jax.devices()
    batches = -(-size // (batch_size * len(devices))) * len(devices)
    batch_size = -(-size // (batches * multiple)) * multiple
    index = jnp.minimum(jnp.arange(batches * batch_size), size - 1)

    def split(leaf):
        leaf = jnp.asarray(leaf)
        return leaf[index].reshape(batches, batch_size, *leaf.shape[1:])

    @jax.checkpoint  # in reverse mode a batch is computed again rather than kept
    def one_batch(batch):
        return function(batch)

    def unless_copies(first, batch):
        result = jax.eval_shape(one_batch, batch)
        types = [leaf.dtype for leaf in jax.tree.leaves(result)]
        keys = any(jnp.issubdtype(dtype, jax.dtypes.prng_key) for dtype in types)
        if keys or (batches - 1) * batch_size < size:  # keys have no zero to stand for them
            return one_batch(batch)
        # There are more devices than batches: what has only copies is not computed.
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), result)
        return jax.lax.cond(first < size, one_batch, lambda _: blank, batch)

    def one_device(firsts, local):
        if firsts.shape[0] == 1:  # a loop of one would only cost its copies
            done = unless_copies(firsts[0], jax.tree.map(lambda leaf: leaf[0], local))
            return jax.tree.map(lambda leaf: leaf[None], done)
        return jax.lax.map(lambda batch: unless_copies(*batch), (firsts, local))

    mesh = Mesh(np.array(devices), ("batch",))
    spec = PartitionSpec("batch")
    run = jax.shard_map(one_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    done = run(jnp.arange(batches) * batch_size, jax.tree.map(split, lanes))
    return jax.tree.map(
        lambda leaf: leaf.reshape(batches * batch_size, *leaf.shape[2:])[:size], done
    )


def leading_size(tree: PyTree) -> int:
    """The common length of every leaf's leading axis.

    **Raises** `ValueError` if there is none.
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            "every leaf of y0 and args needs the same leading axis of trajectories; "
            f"got leading axes {sorted(sizes)}."
        )
    return sizes.pop()[0]
