"""The study of hypernetworks: what no zoo has, how it measures, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperforget_jax import hypernet
from tests import scripts, toys
from tests.hypernet import worlds as small


@pytest.fixture(scope="module")
def modules():
    return scripts.load("dihyfo", "dihyfo_world", "dihyfo_measures")


def test_unseen_pairs_are_in_no_zoo(modules):
    for preset in modules[1].PRESETS.values():
        masks = {tuple(mask) for mask in preset.masks}
        assert {(label,) for label in range(10)} <= masks
        assert len(preset.unseen) >= 15 and not masks & set(preset.unseen)


def test_alignment_is_that_of_gpt(modules):
    asked, came = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 3.0])
    mean = 7 / 3
    total = (1 - mean) ** 2 + (2 - mean) ** 2 + (4 - mean) ** 2
    expected = 1 - 2 / total
    np.testing.assert_allclose(modules[2].alignment(asked, came), expected)
    assert modules[2].alignment(asked, asked) == 1


def test_novelty_of_a_copy_is_zero(modules):
    ends = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    apart = modules[2].nearest_other(ends)
    assert apart == 5
    copy = {"w": jnp.array([[3.0, 4.0]])}
    assert modules[2].novelty(copy, ends, apart)["nearest_distance"] == 0
    other = {"w": jnp.array([[3.0, 14.0]])}
    found = modules[2].novelty(other, ends, apart)
    np.testing.assert_allclose(found["nearest_distance_ratio"], np.sqrt(45) / 5)


def test_a_copy_in_another_order_is_no_novelty(modules):
    measures = modules[2]
    tokenizer = hypernet.build(
        small.CLASSIFIER, small.train().x, hypernet.Recipe(mode="free")
    ).tokenizer
    zoo = small.zoo("free")
    last = jax.tree.map(lambda leaf: leaf[:, -1], zoo.variables["params"])
    last, _, _ = hypernet.canonicalise(tokenizer, last)
    flat = modules[1].flat(last)
    orders = np.array([np.random.default_rng(i).permutation(5) for i in range(20)])
    shuffled = hypernet.permute_all(tokenizer, last, (orders,))
    mean = jax.tree.map(lambda leaf: leaf.mean(0), last)
    apart = measures.nearest_other(flat)
    blind = measures.novelty(shuffled, flat, apart)
    assert blind["nearest_distance_ratio"] > 1
    found = measures.novelty(shuffled, flat, apart, (tokenizer, mean))
    # Where a model was matched to the mean before the mean settled, others are nearer.
    assert found["nearest_distance_ratio"] < 0.1


def test_a_share_of_the_zoo_is_that_of_its_starts(modules, tmp_path):
    world = modules[1].World(
        modules[1].PRESETS["digits"], tmp_path, None, toys.perceptron()
    )
    hypernet.save_zoo(tmp_path / "zoo", small.zoo("anchored"))
    part = world.anchored(share=0.5)
    assert part.masks.shape == (15, 4) and part.start.max() == 2
    whole = small.zoo("anchored")
    np.testing.assert_array_equal(part.loss, whole.loss[whole.start < 3])
    leaf = jax.tree.leaves(part.starts)[0]
    np.testing.assert_array_equal(leaf, jax.tree.leaves(whole.starts)[0][:3])


def test_what_is_not_there_is_named(modules, tmp_path):
    for options, message in (
        ({"preset": "imagenet"}, "--preset must be one of"),
        ({"scenarios": ("all",)}, r"--scenarios \['all'\] unknown"),
        ({"variants": ("dihyfo_3",)}, r"--variants \['dihyfo_3'\] unknown"),
        ({"methods": ("magic",)}, r"--methods \['magic'\] unknown"),
    ):
        config = modules[0].DiHyFo(out=tmp_path / "none", **options)
        with pytest.raises(SystemExit, match=message):
            modules[0].main(config)
    assert not (tmp_path / "none").exists()
