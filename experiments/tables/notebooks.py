"""The notebooks, each with a badge that opens it on Colab."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLAB = "https://colab.research.google.com"


def overview(repository: str | None = None) -> str:
    """List the notebooks by title.

    Args:
        repository: its address on GitHub, which Colab opens notebooks from; by default
            the project's own, and no badges where it names none.
    """
    if repository is None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        repository = project.get("urls", {}).get("Repository")
    lines = []
    for script in sorted((ROOT / "notebooks").glob("*.py")):
        match = re.search(r"^# # (.+)$", script.read_text(), re.MULTILINE)
        assert match, f"{script} has no title"
        line = f"- [{match.group(1)}]({script.stem}.ipynb)"
        if repository is not None:
            place = repository.removeprefix("https://github.com/").rstrip("/")
            where = f"{COLAB}/github/{place}/blob/main/notebooks/{script.stem}.ipynb"
            line += f" [![Colab]({COLAB}/assets/colab-badge.svg)]({where})"
        lines.append(line + "\n")
    return "".join(lines)
