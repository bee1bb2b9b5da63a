"""The only code that touches DBOS's private names.

The journal and everything above may import it. Begin with `workflow_scope`: which execution of
which workflow the caller runs in.
"""
