"""Records of results, and the table, the verdicts and the page that show them."""

from hyperforget_jax.report.comparison import compare
from hyperforget_jax.report.pages import write_report
from hyperforget_jax.report.records import read, results_document, results_row, write
from hyperforget_jax.report.schema import metric_summary, validate
from hyperforget_jax.report.tables import table
from hyperforget_jax.report.verdicts import Verdict, verdict

__all__ = [
    "Verdict",
    "compare",
    "metric_summary",
    "read",
    "results_document",
    "results_row",
    "table",
    "validate",
    "verdict",
    "write",
    "write_report",
]
