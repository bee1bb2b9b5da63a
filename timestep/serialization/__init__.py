"""What is recorded, as JSON, and back: values, exceptions, the SDK's objects. Pure functions.

Everything above may import this package. It reaches no database and no workflow. Begin with
`values`, which the other modules are made of.
"""
