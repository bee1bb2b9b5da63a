"""`usage_report`: what agents used and cost, under the name that applications import."""

from timestep.operations.queries.usage import UsageRow, usage_report

__all__ = ["UsageRow", "usage_report"]
