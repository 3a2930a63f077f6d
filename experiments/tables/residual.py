"""A residual network on all of CIFAR-10."""

from tables.writing import (
    METHOD,
    Cell,
    frame,
    grouped,
    less_retrained,
    relearning,
    rows_of,
    spread,
    value,
)


def results(preset: str) -> str:
    """Show every request, method by method, beside retraining and its seconds."""
    name = f"residual-{preset}"
    found = frame(name).query("method != 'ceiling'").copy()
    found["gap"] = less_retrained(found, "retain_accuracy_test")
    seconds = {
        (row["request"], row["method"]): row["seconds"]["unlearn"]
        for row in rows_of(name)
    }

    def cost(form: str, of_retraining: bool) -> Cell:
        def cell(of) -> str:
            request, method = of[["request", "method"]].iloc[0]
            own, whole = seconds[request, method], seconds[request, "retrain"]
            if not own or (of_retraining and method == "retrain"):
                return "–"
            return form.format(whole / own if of_retraining else own)

        return cell

    return grouped(
        found,
        ["request", "method"],
        ("request", value("request")),
        METHOD,
        ("forget accuracy, train", spread("forget_accuracy_train", 3)),
        ("forget accuracy, test", spread("forget_accuracy_test", 3)),
        ("retain accuracy, test", spread("retain_accuracy_test", 3)),
        ("less retraining's, points", spread("gap", 1)),
        ("JS to retrained, nats", spread("js_to_oracle", 3)),
        ("relearning steps", relearning()),
        ("seconds", cost("{:,.1f}", of_retraining=False)),
        ("retraining takes, times", cost("{:,.0f}", of_retraining=True)),
    )
