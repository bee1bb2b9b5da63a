"""Reads of runs, each list or report a module. Begin with `runs`; `records` is what they answer."""
