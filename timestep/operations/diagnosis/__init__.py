"""Finds out how an installation stands: what is wrong with it, which hosts it has, what is stuck.

`doctor` is what `timestep doctor` tells, too; `standing` is what the database tells of hosts and of
workflows that nobody goes on with.
"""
