"""What the driver says of an error quotes no row, and no parameter of a statement."""

from __future__ import annotations

import asyncio
import traceback

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from timestep.database.async_pool import sender_of

SECRET = "topsecret"
INSERT = "INSERT INTO public.runs (id, workflow_id) VALUES (NULL, {})"


def told(error: BaseException) -> str:
    return f"{error} {error!r} {error.args} {''.join(traceback.format_exception(error))}"


def test_a_refused_row_is_in_no_error(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(IntegrityError) as raised:
        connection.exec_driver_sql(INSERT.format("%s"), (SECRET,))
    assert "violates not-null constraint" in str(raised.value)
    assert isinstance(raised.value.orig, psycopg.Error)
    assert raised.value.orig.diag.column_name == "id"
    assert SECRET not in told(raised.value)

    sending = sender_of(engine).execute(INSERT.format("$1"), [SECRET.encode()])
    with pytest.raises(psycopg.Error, match="violates not-null constraint") as sent:
        asyncio.run(sending)
    assert SECRET not in told(sent.value)
