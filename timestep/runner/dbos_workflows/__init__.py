"""The workflows that Timestep registers with DBOS, each when its module is imported.

Only `runner.installation` imports the modules, so that importing Timestep registers nothing.
"""
