"""Judge the claim that docs/audits.md makes with PyTorch, and record the judgement.

    python experiments/audit_torch.py

Runs the page's own block, which leaves logits in a folder, and judges that folder as
``hyperforget audit`` does. The record, ``results.json``, is put beside the logits.
"""

import importlib.metadata
import re
import time
from pathlib import Path
from typing import Any

import hyperforget_jax as hf

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- block: audit_torch -->\n```python\n(.*?)```", re.DOTALL)


def main() -> None:
    """Run, judge and write."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("This needs PyTorch (pip install '.[benchmark]').") from None
    begin = time.perf_counter()
    (code,) = BLOCK.findall((ROOT / "docs/audits.md").read_text())
    names: dict[str, Any] = {"__name__": "block"}
    exec(compile(code, "docs/audits.md", "exec"), names)
    found = hf.audits.judge(*hf.audits.load_folder(names["folder"]))
    document = hf.report.results_document(
        rows_of(found, torch, int(names["FORGET"])),
        preset="digits",
        config={"models": names["MODELS"]},
        seconds=time.perf_counter() - begin,
        repository=ROOT,
    )
    path = names["folder"] / "results.json"
    hf.report.write(path, document, references=False)


def rows_of(found: hf.audits.Judgement, torch: str, label: int) -> list[dict[str, Any]]:
    """Lay out a judgement: what was claimed, and the two ends of every audit's scale.

    ``original`` poses the original models as unlearned, ``ceiling`` retrained ones.
    """
    posed = {
        "original": {each.audit: each.original for each in found.audits},
        "ceiling": {each.audit: each.floor for each in found.audits},
        "finetune": {each.audit: each.value for each in found.audits}
        | {f"{each.audit}, p": each.p for each in found.audits},
    }
    about = {
        "framework": f"torch {torch}",
        "models": found.models,
        "a_side": found.a_side,
        "level": found.level,
    }
    judged = {"accused_by": found.accused_by, "verdict": found.verdict}
    return [
        hf.report.results_row(
            method,
            [{name: value for name, value in values.items() if value is not None}],
            dataset="digits",
            model="mlp-32",
            scenario="class",
            request=f"class {label}",
            access=None,
            seconds=None,
            factors=about | (judged if method == "finetune" else {}),
            over="claim",
            num_forgotten=found.examples,
        )
        for method, values in posed.items()
    ]


if __name__ == "__main__":
    main()
