"""MCP servers: what they list, their calls, and connections that runs share. Begin with `tools`."""
