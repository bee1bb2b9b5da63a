"""What bodies, steps and other operations of DBOS's end with, and in which order that is told.

`journal` contains exits; `execution` keeps the order. Begin with `told_in_order`.
"""
