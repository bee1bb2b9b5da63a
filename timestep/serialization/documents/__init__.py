"""JSON documents as rows hold them, and what people are shown of them, without making anything.

What only reads imports this, and neither the SDK nor pydantic with it; `serialization.values` makes
values of documents, and documents of values. Begin with `forms`.
"""
