"""How a replay repeats what the first execution did: in its order, and no further than its end.

Begin with `ordering`.
"""
