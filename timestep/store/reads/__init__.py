"""SQL that only reads: for the API, the command line, reports and tests. Begin with `runs`."""
