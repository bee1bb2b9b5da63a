"""Writes what runs do, and reads it again: one step, one transaction, fenced by its owner.

Steps, a run's execution and everything above may import it. Begin with `recorder`.
"""
