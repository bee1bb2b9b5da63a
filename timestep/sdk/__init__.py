"""The only code that touches the Agents SDK's private names: the call sites a durable run replaces.

The runner and run states may import it. Begin with `patches`, the table of all call sites.
"""
