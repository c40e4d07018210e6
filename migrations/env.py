"""How Alembic reaches the database: on the library's own connection, or by hand through `alembic.ini`."""

import os

from alembic import context

from schedfactory.storage import migrate
from schedfactory.storage.tables import metadata

VERSION_TABLE = {"version_table": "schedfactory_version", "target_metadata": metadata}


def run_by_hand() -> None:
    """Serve `alembic upgrade head`: the same steps as the library's first use, on the database that is named."""
    given = context.get_x_argument(as_dictionary=True).get("database") or os.environ.get("SCHEDFACTORY_DATABASE")
    if context.is_offline_mode():
        context.configure(url="sqlite://", literal_binds=True, **VERSION_TABLE)
        with context.begin_transaction():
            context.run_migrations()
        return
    with migrate.by_hand(given) as connection:
        context.configure(connection=connection, transactional_ddl=True, **VERSION_TABLE)
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is None:
    run_by_hand()
else:
    context.configure(connection=connection, **VERSION_TABLE)
    context.run_migrations()
