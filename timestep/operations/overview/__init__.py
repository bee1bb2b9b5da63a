"""Tells what pages of many runs show: what each does, how many there are, what is stuck and why.

Reads only, and imports neither DBOS nor the SDK, as `timestep.operations.queries` does. Begin with
`activity`.
"""
