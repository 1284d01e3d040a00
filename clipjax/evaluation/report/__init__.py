"""Runs as one page to look at: what changed, where, and how it came about."""

from clipjax.evaluation.report.page import report_page

__all__ = ["report_page"]
