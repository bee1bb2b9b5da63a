"""People's part in a run: who is told that it waits, how it waits, and what a decision means.

Operations and the runner may import it. Begin with `decide`.
"""
