"""All SQL, besides `migrations/`: one module for each thing that is written or read.

Its functions take a connection, and know nothing of runs in this process. Imported by the
journal and by what reads. Begin with `step_commit`, the one statement that writes a step.
"""
