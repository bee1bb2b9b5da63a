"""The API's routes, a module for each first segment below `/api`."""
