"""The HTTP API. Only the host and the command line import it. Begin with `app`."""
