"""What is done with runs from any process: start, cancel, resume, fork, take over, and read.

The host, the HTTP API and the command line may import it. Begin with `entrypoints` and `start`.
"""
