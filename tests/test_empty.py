"""What is empty, over the table of `cases.py`: a layer gives what its definition gives, or refuses in one sentence.

A sum over an axis of size zero has no terms. These programs are compiled and run: whether XLA takes an empty operand
shows only then.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from tests.test_cases import every_case, float32, full_case


@functools.cache
def emptied(case):
    """The case's arguments with axes of one size made empty: every smallest combination that the layer takes.

    Others it must refuse by a `ValueError`, from the shapes alone.
    """
    leaves, tree = jax.tree.flatten(float32(case.args()))
    taken = {}
    for size in sorted({n for leaf in leaves for n in leaf.shape}):
        choices = [[None, *(axis for axis, n in enumerate(leaf.shape) if n == size)] for leaf in leaves]
        for axes in sorted(itertools.product(*choices), key=lambda axes: len(axes) - axes.count(None)):
            which = {(i, axis) for i, axis in enumerate(axes) if axis is not None}
            if not which or any(smaller <= which for smaller in taken):
                continue
            cut = [leaf if axis is None else leaf.take([], axis) for leaf, axis in zip(leaves, axes, strict=True)]
            args = jax.tree.unflatten(tree, cut)
            try:
                jax.eval_shape(case.function, *args)
            except ValueError:
                continue
            taken[frozenset(which)] = args
    return list(taken.values())


def shapes(result):
    return [leaf.shape for leaf in jax.tree.leaves(result)]


def same(got, expected):
    assert shapes(got) == shapes(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@every_case
def test_the_value_is_that_of_the_definition(case):
    full = jax.eval_shape(case.function, *float32(case.args()))
    taken = emptied(case)
    assert taken  # at least an empty batch
    for args, y in zip(taken, jax.jit(lambda taken: [case.function(*some) for some in taken])(taken), strict=True):
        for leaf, whole in zip(jax.tree.leaves(y), jax.tree.leaves(full), strict=True):
            assert leaf.ndim == whole.ndim
        if any(leaf.size for leaf in jax.tree.leaves(y)):
            same(y, case.oracle(*jax.tree.map(np.asarray, args)))


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@full_case
def test_all_derivatives_exist_and_agree(case):
    def derivatives(args):
        y, pull = jax.vjp(case.function, *args)
        ones = jax.tree.map(jnp.ones_like, y)
        every = tuple(range(len(args)))
        return {
            "reverse": pull(ones),
            "remat": jax.vjp(jax.checkpoint(case.function), *args)[1](ones),
            "pushed": dot(jax.jvp(case.function, args, args)[1], ones),
            "pulled": dot(pull(ones), args),
            "rows": jax.jacrev(case.function, every)(*args),
            "columns": jax.jacfwd(case.function, every)(*args),
        }

    taken = emptied(case)
    for args, made in zip(taken, jax.jit(lambda taken: [derivatives(some) for some in taken])(taken), strict=True):
        assert shapes(made["reverse"]) == shapes(args)
        same(made["remat"], made["reverse"])
        same(made["pushed"], made["pulled"])
        same(made["rows"], made["columns"])


@full_case
def test_mapping_and_looping_over_nothing_gives_an_axis_of_size_zero(case):
    args = float32(case.args(batch=()))

    def run(*args):
        y, pull = jax.vjp(case.function, *args)
        return y, pull(y)

    def none(tree):
        return jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), tree)

    ways = [axes for axes in itertools.product((0, None), repeat=len(args)) if 0 in axes]

    @jax.jit
    def everything(args, nothing):
        mapped = [
            jax.vmap(run, axes)(
                *(arg if axis is None else no for arg, no, axis in zip(args, nothing, axes, strict=True))
            )
            for axes in ways
        ]
        return [*mapped, jax.lax.scan(lambda _, args: (None, run(*args)), None, nothing)[1]]

    one = jax.eval_shape(run, *args)
    for result in everything(args, none(args)):
        assert shapes(result) == shapes(jax.eval_shape(none, one))


@pytest.mark.parametrize("layer", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("empty", ["batch", "time", "features"])
def test_recurrent_layers_with_every_option_agree_on_nothing(layer, empty):
    batch, time, features = (0 if axis == empty else n for axis, n in (("batch", 2), ("time", 5), ("features", 3)))
    params = getattr(F, f"init_{layer}")(jax.random.key(0), 3, 4)
    params, x = params._replace(w_x=params.w_x[:features]), jnp.ones((batch, time, features))
    each = [
        {},
        {"remat": 2, "truncate": 2, "lengths": jnp.full(batch, time // 2)},
        {"reverse": True, "resets": jnp.ones((batch, time), bool)},
    ]

    @functools.partial(jax.jit, static_argnums=0)
    def run(algorithm, params, x):
        made = []
        for options in each:
            layer_of = functools.partial(getattr(F, layer), algorithm=algorithm, **options)
            y, pull = jax.vjp(layer_of, params, x)
            made.append((y, pull(y), jax.vmap(layer_of, (None, 0))(params, jnp.zeros((0, *x.shape)))))
        return made

    got = run("fused", params, x)
    assert got[0][0][0].shape == (batch, time, 4)
    assert shapes(got[0][1]) == shapes((params, x))
    same(got, run("scan", params, x))


@pytest.mark.parametrize("layer", ["rnn", "gru", "lstm"])
def test_a_recurrent_layer_without_units_is_refused(layer):
    params = getattr(F, f"init_{layer}")(jax.random.key(0), 3, 4)
    with pytest.raises(ValueError, match="at least 1 unit"):
        getattr(F, layer)(
            jax.tree.map(lambda leaf: leaf[..., :0][:0] if leaf.ndim == 2 else leaf[:0], params), jnp.ones((2, 5, 3))
        )


def test_a_vocabulary_without_tokens_is_refused():
    def step(state, token):
        return jnp.zeros((*token.shape, 0)), state

    start = jnp.zeros(2, jnp.int32)
    for decode in (
        lambda: F.greedy(step, (), start, max_length=3),
        lambda: F.sample(step, (), start, jax.random.key(0), max_length=3),
        lambda: F.beam_search(step, (), start, beams=2, max_length=3),
        lambda: F.filter_logits(jnp.zeros((2, 0)), top_p=0.5),
    ):
        with pytest.raises(ValueError, match="at least one token"):
            decode()
