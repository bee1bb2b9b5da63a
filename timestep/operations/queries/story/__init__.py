"""Tells what one run did, for its page. Begin with `timeline`; `steps` is what it answers with."""
