"""Reaches databases: their URLs, engines and connections, migrations, and the servers started here.

`store/`, the journal and everything above may import this package. Begin with `engines`.
"""

from timestep.database.engines import system_database_url

__all__ = ["system_database_url"]
