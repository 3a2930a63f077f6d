"""Records of results, and the table and the page that show them."""

from hyperforget_jax.report.report import write_report
from hyperforget_jax.report.results import read, results_document, results_row, write
from hyperforget_jax.report.schema import metric_summary, validate
from hyperforget_jax.report.tables import table

__all__ = [
    "metric_summary",
    "read",
    "results_document",
    "results_row",
    "table",
    "validate",
    "write",
    "write_report",
]
