"""Asks a host over HTTP what Python calls ask the database. Begin with `client`."""
