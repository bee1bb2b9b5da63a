"""Agent entrypoints, one a file: `timestep serve` finds every workflow here."""
