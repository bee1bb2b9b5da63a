"""What of a run is made durable: one module for each kind of step.

The SDK's call sites, approvals and the runner may import it. Begin with `step`, the interface,
and `perform`, which looks a step up or executes and commits it.
"""
