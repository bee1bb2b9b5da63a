"""The model of a turn, asked through the run's steps. Begin with `durable_model`."""
