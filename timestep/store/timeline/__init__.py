"""Reads what one run did, a part at a time, for its page. Begin with `rows`."""
