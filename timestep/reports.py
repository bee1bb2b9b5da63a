"""`usage_report`: what agents used and cost, under the name that applications import."""

from timestep.operations.queries.records import UsageRow
from timestep.operations.queries.usage import usage_report

__all__ = ["UsageRow", "usage_report"]
