"""Who may use the HTTP API, and who did what. Begin with `acting` and `audit`."""
