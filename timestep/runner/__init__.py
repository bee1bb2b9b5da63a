"""A run from its first line to its last. The host and users' code may import it.

Begin with `run_agent`, what an entrypoint calls, and `agent_runner`, the SDK's loop made durable.
"""
