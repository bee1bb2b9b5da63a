"""The pages of one run: what it did, how it differs from another, and its forks."""
