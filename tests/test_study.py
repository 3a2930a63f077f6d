"""What every study stands on: who is given which rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from tests import scripts


@pytest.mark.slow
def test_a_part_of_the_rows_judges_what_was_learned_from_all(tmp_path, monkeypatch):
    recipes, study = scripts.load("recipes", "study")
    recipe = recipes.Recipe(
        "digits", (4,), 1e-2, 0.1, 20, 64, rows=400, held_out=60, judged=150
    )
    whole = hf.data.load("digits")
    asked, judged = [], []
    real = hf.evaluate

    def spied(classifier, variables, request, examples, **options):
        judged.append((request, examples))
        return real(classifier, variables, request, examples, **options)

    def spy(classifier):
        mask = hf.logit_mask(classifier)

        def unlearn(key, state, request):
            asked.append(request.data.id.shape)
            return mask.unlearn(key, state, request)

        return mask._replace(unlearn=unlearn)

    monkeypatch.setattr(hf, "evaluate", spied)
    made = study.Study("test", recipe, 2, tmp_path)
    rows = {name: np.asarray(part.id) for name, part in made.splits._asdict().items()}
    assert [rows[name].size for name in ("train", "probe", "test")] == [400, 60, 60]
    for name, ids in rows.items():
        assert set(ids) < set(np.asarray(getattr(whole, name).id).tolist())
    made.forget_classes((3,), {"spy": study.Method(spy, {})}, longer=False)
    assert set(asked) == {(400,)}
    for request, examples in judged:
        np.testing.assert_array_equal(request.data.id, rows["train"][:150])
        np.testing.assert_array_equal(examples.id, rows["test"])
        assert np.flatnonzero(request.classes).tolist() == [3]
    found = {row["method"]: row["metrics"] for row in made.rows}
    assert found["spy"]["forget_accuracy_test"]["mean"] == 0
    assert {"original", "retrain", "ceiling", "spy"} == set(found)


def test_kernels_move_as_matrices_and_the_rest_by_adam():
    (recipes,) = scripts.load("recipes")
    recipe = recipes.RECIPES["cifar10_resnet8"]
    params = {
        "conv": jax.random.normal(jax.random.key(0), (3, 3, 2, 8)),
        "dense": jax.random.normal(jax.random.key(1), (8, 10)),
        "scale": jnp.ones(8),
    }
    optimizer = recipe.optimizer(10)
    state = optimizer.init(params)
    updates, _ = optimizer.update(params, state, params)
    first = 0.1 * recipe.learning_rate
    for name, rows in (("conv", 18), ("dense", 8)):
        moved = updates[name] + first * recipe.weight_decay * params[name]
        stretched = np.linalg.svd(moved.reshape(rows, -1), compute_uv=False)
        # Newton-Schulz brings singular values near to one, and no nearer.
        longest = first * max(1, moved.shape[-1] / rows) ** 0.5
        assert np.all(abs(stretched / longest - 1) < 0.4), stretched / longest
    # Nesterov's look ahead makes Adam's first step longer by 0.9 * 0.1 / (1 - 0.9**2).
    by_adam = -0.3 * first * (1 + 0.09 / 0.19)
    np.testing.assert_allclose(updates["scale"], by_adam, rtol=1e-4)
