"""Django's backend for PostgreSQL, with the driver's errors as ours and columns that hold what SQLite's hold."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.operations import DatabaseOperations as PostgresOperations
from django.db.backends.postgresql.operations import get_json_dumps
from django.db.backends.postgresql.schema import DatabaseSchemaEditor as PostgresSchemaEditor
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg import IsolationLevel
from psycopg.types.json import Json
from psycopg.types.string import TextLoader

from wiring.postgresql import errors, server


class ErrorWrapper(DatabaseErrorWrapper):
    """Raises our errors for the outcomes that callers treat differently, Django's for the rest."""

    def __init__(self, database: DatabaseWrapper) -> None:
        super().__init__(database)
        self.database = database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg.Error) and (ours := errors.translated(error)) is not None:
            self.database.errors_occurred = True
            raise errors.for_django(ours).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)


class DatabaseOperations(PostgresOperations):
    def adapt_json_value(self, value: Any, encoder: Any) -> Any:
        return Json(value, dumps=get_json_dumps(encoder))


class DatabaseSchemaEditor(PostgresSchemaEditor):
    def _create_like_index_sql(self, model: Any, field: Any) -> None:
        """None: where text sorts by its bytes, the ordinary index finds prefixes too."""


class DatabaseWrapper(base.DatabaseWrapper):
    # The journal is the truth and knows neither lengths nor jsonb's idea of numbers: what SQLite took in must fold here to the same rows.
    data_types = base.DatabaseWrapper.data_types | {"CharField": "text", "JSONField": "json"}
    SchemaEditorClass = DatabaseSchemaEditor
    ops_class = DatabaseOperations

    @cached_property
    def wrap_database_errors(self) -> ErrorWrapper:
        return ErrorWrapper(self)

    def get_connection_params(self) -> dict[str, Any]:
        told = super().get_connection_params()
        return {name: told[name] for name in ("where", "owner", "context", "cursor_factory", "prepare_threshold")}

    def get_new_connection(self, conn_params: dict[str, Any]) -> server.Bounded:
        # Django sets this before it is asked to connect; see there.
        self.isolation_level = IsolationLevel.READ_COMMITTED
        server.renew_holds()
        connection = server.connect(**conn_params)
        connection.adapters.register_loader("json", TextLoader)
        return connection

    def is_usable(self) -> bool:
        """As Django's, but a network that forgot the connection does not hold a page for minutes."""
        if self.connection is None:
            return False
        usual, self.connection.answer = self.connection.answer, server.HEALTH
        try:
            return bool(super().is_usable())
        finally:
            self.connection.answer = usual

    def ensure_connection(self) -> None:
        """Also after the connection was lost: outside of a transaction the next statement gets a new one."""
        if self.connection is not None and self.connection.closed and not self.in_atomic_block:
            self.close()
        super().ensure_connection()
