"""One execution of a run in this process: who it is, what is recorded of it, where it stands.

Steps, the SDK's call sites and the runner may import it. Begin with `run`.
"""
