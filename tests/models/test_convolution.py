"""The convolution against XLA's own and against a loop over pixels in float64."""

import functools
import itertools
import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hyperforget_jax import sharding
from hyperforget_jax.models import conv

CHANNELS_LAST = {
    1: ("NWC", "WIO", "NWC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}
# Sums of at most 48 float32 products of normal numbers, in another order.
CLOSE = dict(rtol=1e-5, atol=2e-5)

IMAGE, KERNEL = (2, 6, 7, 3), (3, 3, 3, 4)
# name: input, kernel, strides, padding, dilation, groups
CASES = {
    "same": (IMAGE, KERNEL, (1, 1), "SAME", (1, 1), 1),
    "same, strided": (IMAGE, KERNEL, (2, 3), "SAME", (1, 1), 1),
    "valid": (IMAGE, KERNEL, (2, 1), "VALID", (1, 1), 1),
    "asymmetric": (IMAGE, KERNEL, (2, 2), ((0, 2), (3, 1)), (1, 1), 1),
    "dilated": (IMAGE, KERNEL, (1, 2), "SAME", (2, 3), 1),
    "even window": (IMAGE, (2, 4, 3, 4), (2, 1), "SAME", (1, 1), 1),
    "one by one": (IMAGE, (1, 1, 3, 4), (2, 2), "SAME", (1, 1), 1),
    "grouped": (IMAGE, (3, 3, 1, 6), (2, 1), "SAME", (1, 1), 3),
    "line": ((2, 9, 3), (3, 3, 4), (2,), ((2, 1),), (2,), 1),
    "few channels": ((2, 5, 8, 3), (3, 3, 3, 8), (2, 1), ((2, 0), (1, 1)), (2, 1), 1),
    "unused edge": ((2, 8, 9, 3), (2, 3, 3, 4), (4, 3), ((0, 1), (2, 3)), (1, 1), 1),
    "volume": ((2, 4, 5, 4, 2), (2, 3, 2, 2, 3), (1, 2, 1), "SAME", (1, 1, 2), 1),
}
each_case = pytest.mark.parametrize("case", CASES)


def draw(x_shape, kernel_shape, seed=0):
    key_x, key_kernel = jax.random.split(jax.random.key(seed))
    return jax.random.normal(key_x, x_shape), jax.random.normal(
        key_kernel, kernel_shape
    )


def options_of(strides, padding, dilation, groups):
    return dict(
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=CHANNELS_LAST[len(strides)],
        feature_group_count=groups,
    )


def loop(x, kernel, strides, padding, dilation, groups):
    """The definition: one output pixel after the other."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    window, sizes = kernel.shape[:-2], x.shape[1:-1]
    extent = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    if padding == "VALID":
        padding = [(0, 0)] * len(window)
    elif padding == "SAME":
        # ceil(size / stride) outputs, the odd pixel of padding at the end.
        missing = [
            max((-(-n // s) - 1) * s + e - n, 0)
            for n, s, e in zip(sizes, strides, extent, strict=True)
        ]
        padding = [(m // 2, m - m // 2) for m in missing]
    x = np.pad(x, [(0, 0), *padding, (0, 0)])
    counts = [
        (n - e) // s + 1 for n, e, s in zip(x.shape[1:-1], extent, strides, strict=True)
    ]
    features, given = kernel.shape[-1] // groups, x.shape[-1] // groups
    out = np.zeros((x.shape[0], *counts, kernel.shape[-1]))
    for place in itertools.product(*map(range, counts)):
        for offset in itertools.product(*map(range, window)):
            pixel = tuple(
                p * s + o * d
                for p, s, o, d in zip(place, strides, offset, dilation, strict=True)
            )
            for g in range(groups):
                of = slice(g * features, (g + 1) * features)
                seen = x[:, *pixel, g * given : (g + 1) * given]
                out[:, *place, of] += seen @ kernel[*offset][:, of]
    return out


@each_case
def test_equals_a_loop_over_pixels(case):
    x_shape, kernel_shape, *how = CASES[case]
    x, kernel = draw(x_shape, kernel_shape)
    got = jax.jit(lambda x, k: conv(x, k, **options_of(*how)))(x, kernel)
    np.testing.assert_allclose(got, loop(x, kernel, *how), **CLOSE)


@each_case
def test_outputs_and_gradients_equal_the_native_ones(case):
    x_shape, kernel_shape, *how = CASES[case]
    x, kernel = draw(x_shape, kernel_shape, seed=1)

    @jax.jit
    def both(x, kernel):
        answers = []
        for apply in (conv, lax.conv_general_dilated):
            out, pull = jax.vjp(
                lambda x, k, apply=apply: apply(x, k, **options_of(*how)), x, kernel
            )
            # Another cotangent for every output.
            answers.append(
                (out, pull(jnp.sin(jnp.arange(out.size)).reshape(out.shape)))
            )
        return answers

    chex.assert_trees_all_close(*both(x, kernel), **CLOSE)


class Convolution(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_jit_and_eager_equal_the_loop(self):
        x, kernel = draw(IMAGE, KERNEL)
        how = ((1, 1), "SAME", (1, 1), 1)
        got = self.variant(lambda x, k: conv(x, k, **options_of(*how)))(x, kernel)
        np.testing.assert_allclose(got, loop(x, kernel, *how), **CLOSE)


OPTIONS = options_of((2, 2), "SAME", (1, 1), 1)


def test_vmap_over_kernels_and_a_scan_over_them_equal_single_calls():
    x, kernels = draw(IMAGE, (3, *KERNEL))

    @jax.jit
    def several(x, kernels):
        vmapped = jax.vmap(lambda k: conv(x, k, **OPTIONS))(kernels)
        both = jax.vmap(lambda x, k: conv(x, k, **OPTIONS))(jnp.stack([x] * 3), kernels)
        _, scanned = lax.scan(
            lambda total, k: (total, conv(x, k, **OPTIONS)), 0, kernels
        )
        return vmapped, both, scanned

    expected = np.stack([loop(x, k, (2, 2), "SAME", (1, 1), 1) for k in kernels])
    for got in several(x, kernels):
        np.testing.assert_allclose(got, expected, **CLOSE)


def _train_like(x, kernels):
    """What training a population does: a scan of vmapped gradients."""

    def step(kernels, _):
        def loss(kernel):
            return jnp.sum(jnp.square(conv(x, kernel, **OPTIONS)))

        return kernels - 1e-3 * jax.vmap(jax.grad(loss))(kernels), None

    return lax.scan(step, kernels, length=2)[0]


def _layouts(text):
    """The axes of every convolution's operands and outputs."""
    return re.findall(r"dim_numbers = (\[.*?\]x\[.*?\])->(\[.*?\])", text)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize("of", ["call", "training"])
def test_only_the_cpu_gets_the_form_of_its_kernels(platform, of):
    x, kernels = draw(IMAGE, (3, *KERNEL))
    if of == "call":
        traced = jax.jit(lambda x, k: conv(x, k, **OPTIONS)).trace(x, kernels[0])
    else:
        traced = jax.jit(_train_like).trace(x, kernels)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    plain = {("[b, 0, 1, f]x[0, 1, i, o]", "[b, 0, 1, f]")}
    found = set(_layouts(text))
    if platform == "cpu":
        groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", text)
        assert found == plain and set(groups) == {"1"}
    elif of == "call":
        assert found == plain
    else:
        # Gradients are in axes of their own.
        assert found - plain


@pytest.mark.parametrize(
    "mapped",
    [
        *(pytest.param(of, marks=pytest.mark.slow) for of in ("x", "kernel", "both")),
        "both, models apart",
    ],
)
def test_derivatives_of_every_order_under_vmap_are_the_native_ones(mapped):
    x, kernel = draw((2, 2, 4, 5, 2), (2, 3, 2, 2, 3), seed=3)
    options = {**OPTIONS, "window_strides": (2, 1)}

    def everything(apply, x, kernel):
        def total(x, kernel):
            return jnp.sum(jnp.sin(apply(x, kernel, **options)))

        grad = jax.grad(total, (0, 1))

        # Forward over reverse, and reverse over that.
        def bent(x, kernel):
            return jax.jvp(grad, (x, kernel), (jnp.cos(x), jnp.cos(kernel)))[1]

        def score(x, kernel):
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in bent(x, kernel))

        return grad(x, kernel), bent(x, kernel), jax.grad(score, (0, 1))(x, kernel)

    axes = {"x": (0, None), "kernel": (None, 0)}.get(mapped, (0, 0))
    x = x if axes[0] == 0 else x[0]
    kernel = kernel if axes[1] == 0 else kernel[0]

    @jax.jit
    def both(x, kernel):
        def of(apply):
            one = functools.partial(everything, apply)
            if mapped != "both, models apart":
                return jax.vmap(one, axes)(x, kernel)
            # Every kernel by all inputs: models within models.
            return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(x, kernel)

        return of(conv), of(lax.conv_general_dilated)

    chex.assert_trees_all_close(*both(x, kernel), **CLOSE)


@pytest.mark.parametrize(
    "how",
    [
        dict(batch_group_count=2),
        dict(lhs_dilation=(2, 1), padding=((1, 2), (0, 1))),
        dict(padding=((-1, 0), (1, -2))),
    ],
    ids=["batch groups", "transposed", "cropped"],
)
def test_what_is_no_plain_convolution_is_left_to_xla(how):
    x, kernel = draw(IMAGE, KERNEL)
    options = {**OPTIONS, **how}
    np.testing.assert_array_equal(
        jax.jit(lambda x, k: conv(x, k, **options))(x, kernel),
        jax.jit(lambda x, k: lax.conv_general_dilated(x, k, **options))(x, kernel),
    )


def test_other_layouts_are_left_to_xla():
    x, kernel = draw((2, 3, 6, 7), (4, 3, 3, 3))
    got = conv(x, kernel, (2, 2), "SAME", rhs_dilation=(2, 1))
    expected = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", rhs_dilation=(2, 1))
    np.testing.assert_array_equal(got, expected)


def test_string_padding_of_a_transposed_convolution_is_refused_as_by_lax():
    x, kernel = draw(IMAGE, KERNEL)
    for apply in (conv, lax.conv_general_dilated):
        with pytest.raises(ValueError, match="not implemented for transposed"):
            apply(x, kernel, **{**OPTIONS, "lhs_dilation": (2, 2)})


def test_dtypes_are_the_native_ones():
    x, kernel = (leaf.astype(jnp.bfloat16) for leaf in draw(IMAGE, KERNEL))
    exact = loop(x, kernel, (2, 2), "SAME", (1, 1), 1)
    for wanted in (None, jnp.float32):
        options = {**OPTIONS, "preferred_element_type": wanted}
        got = jax.jit(lambda x, k, options=options: conv(x, k, **options))(x, kernel)
        assert got.dtype == (wanted or jnp.bfloat16)
        # bfloat16 has eight bits: outputs of at most 16 are off by 1/32 when rounded.
        tolerance = 1e-4 if wanted else 1 / 16
        np.testing.assert_allclose(got.astype(np.float32), exact, atol=tolerance)


@pytest.mark.parametrize(
    "how",
    [
        dict(),
        dict(strides=2, padding=1, use_bias=False),
        dict(kernel_dilation=2, padding=[(0, 1), 2]),
    ],
    ids=["default", "strided", "dilated"],
)
def test_flax_layers_keep_their_parameters_and_outputs(how):
    x, _ = draw(IMAGE, KERNEL)
    native = nn.Conv(4, (3, 3), **how)
    ours = nn.Conv(4, (3, 3), conv_general_dilated=conv, **how)
    variables = jax.jit(native.init)(jax.random.key(2), x)
    chex.assert_trees_all_equal(jax.jit(ours.init)(jax.random.key(2), x), variables)
    np.testing.assert_allclose(
        jax.jit(ours.apply)(variables, x), jax.jit(native.apply)(variables, x), **CLOSE
    )


def test_the_gradient_of_a_replicated_kernel_is_summed_over_devices():
    x, kernel = draw((4, *IMAGE[1:]), KERNEL)
    mesh = sharding.make_mesh(population=2)
    split, whole = jax.P("population"), jax.P()

    def loss(convolution, kernel, x):
        def part(x, kernel):
            return lax.psum(jnp.sum(jnp.sin(convolution(x, kernel))), "population")

        sharded = jax.shard_map(
            part, mesh=mesh, in_specs=(split, whole), out_specs=whole
        )
        return sharded(x, kernel)

    options = dict(dimension_numbers=CHANNELS_LAST[2])
    own, native = (
        functools.partial(one, window_strides=(1, 1), padding="SAME", **options)
        for one in (conv, lax.conv_general_dilated)
    )
    found, expected = (jax.grad(loss, 1)(one, kernel, x) for one in (own, native))
    chex.assert_trees_all_close(found, expected, **CLOSE)


def test_what_is_empty_or_does_not_fit_is_as_it_is_elsewhere():
    x, kernel = draw(IMAGE, KERNEL)
    options = dict(window_strides=(1, 1), dimension_numbers=CHANNELS_LAST[2])
    same = functools.partial(conv, padding="SAME", **options)
    none = jnp.zeros((5, 0, *IMAGE[1:]))
    assert jax.vmap(same, (0, None))(none, kernel).shape == (5, 0, 6, 7, 4)
    small = functools.partial(conv, padding="VALID", **options)
    grads = jax.grad(lambda k: jnp.sum(small(x[:, :2], k)))(kernel)
    np.testing.assert_array_equal(grads, 0)
    with pytest.raises((TypeError, ValueError)):
        jax.eval_shape(same, x[..., :2], kernel)
    both = [lax.Precision.HIGHEST, lax.Precision.HIGHEST]
    chex.assert_trees_all_close(
        same(x, kernel, precision=both), same(x, kernel), **CLOSE
    )
