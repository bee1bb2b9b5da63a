"""The inbox: what people are asked, and how they decide it.

`inbox` shows the questions, `decisions` asks once more and decides. Begin with `inbox`.
"""
