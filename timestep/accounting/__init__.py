"""Says what requests to a model cost. Imported by the steps. Begin with `prices`."""
