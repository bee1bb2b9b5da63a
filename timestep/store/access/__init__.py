"""Who may use the HTTP API, and who did what: tokens, logins, wrong tokens, the audit."""
