"""Records of results, and the table, the verdicts and the pages that show them."""

from hyperforget_jax.report.audit_page import scenario_title, write_audit_page
from hyperforget_jax.report.audit_records import (
    audit_document,
    audit_row,
    read_audit,
    validate_audit,
    write_audit,
)
from hyperforget_jax.report.audit_verdicts import audit_verdict
from hyperforget_jax.report.comparison import compare
from hyperforget_jax.report.pages import write_report
from hyperforget_jax.report.records import read, results_document, results_row, write
from hyperforget_jax.report.schema import by_subject, metric_summary, validate
from hyperforget_jax.report.tables import table
from hyperforget_jax.report.verdicts import Verdict, verdict

__all__ = [
    "Verdict",
    "audit_document",
    "audit_row",
    "audit_verdict",
    "by_subject",
    "compare",
    "metric_summary",
    "read",
    "read_audit",
    "results_document",
    "results_row",
    "scenario_title",
    "table",
    "validate",
    "validate_audit",
    "verdict",
    "write",
    "write_audit",
    "write_audit_page",
    "write_report",
]
