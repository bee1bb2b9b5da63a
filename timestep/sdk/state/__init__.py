"""The SDK's RunState: made before each turn, and gone on with. Begin with `turn_state`."""
