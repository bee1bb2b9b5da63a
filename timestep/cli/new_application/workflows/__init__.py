"""The entrypoints of this application: `timestep serve` finds every workflow in here."""
