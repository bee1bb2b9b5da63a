"""The commands, a module an area; none knows another."""
