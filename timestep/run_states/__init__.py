"""Stores of RunStates, in two languages. Begin with `base_store`, what every store does."""
