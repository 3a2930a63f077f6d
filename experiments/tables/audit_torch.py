"""The judgement of a claim that was made with PyTorch."""

from tables.writing import rows_of, table


def judgement() -> str:
    """Show what each audit found beside both ends of its scale, and the verdict."""
    rows = {row["method"]: row for row in rows_of("audit-torch-digits")}
    claim = rows["finetune"]

    def cell(method, name):
        metric = rows[method]["metrics"].get(name)
        return f"{metric['mean']:.3f}" if metric else "–"

    lines = [
        [
            name,
            cell("finetune", name),
            cell("ceiling", name),
            cell("original", name),
            cell("finetune", f"{name}, p"),
        ]
        for name in claim["metrics"]
        if not name.endswith(", p")
    ]
    heads = ["audit", "value", "floor", "original", "p"]
    return table(heads, lines) + f"\nVerdict: {claim['factors']['verdict']}.\n"
