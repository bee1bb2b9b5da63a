"""The host: launches DBOS with a directory's entrypoints, and serves the HTTP API.

Only the command line imports it. Begin with `server`.
"""
