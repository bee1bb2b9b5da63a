"""How a replay repeats what the first execution did: in its order, and no further than its end.

Begin with `ordering`; for what ends side by side, with `end_order`.
"""
