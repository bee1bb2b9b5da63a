"""SQL about the processes that execute workflows. Begin with `hosts`."""
