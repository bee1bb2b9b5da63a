"""Every error Timestep raises, drawn from one base.

    TimestepError
    ├── ConfigurationError          a setting, or an installation, that cannot work
    ├── DatabaseError               the database refused, or is not what is needed
    │   ├── DatabaseUnreachableError
    │   ├── NoDatabaseError         none was made where the settings say that it is
    │   ├── DatabaseTooOldError
    │   ├── DatabaseRightsError
    │   ├── MigrationError          the schema cannot be brought to this version
    │   ├── EmbeddedDatabaseError   the embedded PostgreSQL cannot start
    │   └── PGliteError             PGlite cannot start, or is another process's
    ├── ExecutorLostError           another host may have this one's executor id
    ├── NotInWorkflowError
    ├── NotInToolCallError
    ├── NotDurableError             this agent or call cannot be made durable
    ├── EntrypointError             an entrypoint cannot be used
    │   ├── UnknownEntrypointError
    │   ├── InvalidInputError       the input does not fit the entrypoint
    │   │   ├── InvalidArgumentsError   nor do edited arguments fit their tool
    │   │   └── InvalidTagsError    tags that a workflow cannot have
    │   ├── AlreadyStartedError     the id is taken by another start
    │   └── QueueFullError          too many workflows wait in the queue already
    ├── InvalidQueryError           a filter, limit or cursor that cannot be used
    ├── HostUnreachableError        the host of `timestep.Client` cannot be reached
    ├── RemoteError                 it answered what no other error here stands for
    ├── UnknownTokenError           there is no such token of the HTTP API
    ├── TokenNameTakenError         another token of the HTTP API has the name
    ├── RunTimeoutError             a run's own timeout is over
    ├── UnknownRunError
    ├── UnknownSessionError
    ├── AlreadyEndedError           a workflow has ended and cannot be cancelled
    ├── UnknownCheckpointError      a run was not checkpointed there
    ├── TakeoverError               a workflow cannot go on from its checkpoint
    ├── UnknownInterruptionError
    ├── AlreadyResolvedError
    ├── ChangedQuestionError        what is decided is not what was shown
    ├── NobodyWaitsError            a decision that nothing would follow
    ├── StateError                  a run's state cannot be saved or loaded
    │   ├── UnknownStateError
    │   ├── CorruptStateError       it is not the state of a run, or not a whole one
    │   ├── StateTooNewError        a newer Agents SDK saved it
    │   └── ForeignStateError       it is of another SDK, or of other agents
    ├── StepError                   how DBOS shows a step that failed
    ├── ReplayError                 a record and the code that replays it disagree
    ├── ProcessExitError            a workflow, or what it called, tried to end the process
    ├── NotAnExceptionError         a workflow, or what it called, raised a BaseException of its own
    ├── CancelledItselfError        a workflow ended in a CancelledError that nobody asked for
    ├── UnreadableValueError        a recorded value whose class is not known, or has changed
    ├── UnrecordableError           a workflow's value that cannot come back from JSON
    ├── PickledRecordError          a record that only unpickling would read
    └── RecordedError               an error that cannot come back as what it was

The class docstring is the default message. Messages quote the value and name the fix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TimestepError(Exception):
    """Timestep failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        """What happened and how to fix it, in one line."""
        return str(self.args[0])


class ConfigurationError(TimestepError):
    """A setting cannot work."""


class DatabaseError(TimestepError):
    """The database refused."""


class DatabaseUnreachableError(DatabaseError):
    """The database cannot be reached."""


class NoDatabaseError(DatabaseError):
    """There is no database here."""


class DatabaseTooOldError(DatabaseError):
    """Timestep needs PostgreSQL 12 or newer."""


class DatabaseRightsError(DatabaseError):
    """The database user lacks a right that Timestep needs."""


class MigrationError(DatabaseError):
    """The database's schema cannot be brought to this version's."""


class EmbeddedDatabaseError(DatabaseError):
    """The embedded PostgreSQL cannot start."""


class PGliteError(DatabaseError):
    """PGlite cannot be used."""


class ExecutorLostError(TimestepError):
    """This host may not execute workflows now: another one may have its executor id."""


class NotInWorkflowError(TimestepError):
    """DurableRunner works inside a DBOS workflow: decorate the caller with @DBOS.workflow()."""


class NotInToolCallError(TimestepError):
    """idempotency_key() works in the body of a tool that a durable run calls."""


class NotDurableError(TimestepError):
    """This cannot be made durable."""


class EntrypointError(TimestepError):
    """An entrypoint cannot be used."""


class UnknownEntrypointError(EntrypointError):
    """There is no such entrypoint."""


class InvalidInputError(EntrypointError):
    """The input does not fit the entrypoint's signature.

    `fields` says what is wrong where, as `{"pointer": ..., "detail": ...}` for each field: a JSON
    pointer into the input, which begins with the parameter's name. It is empty where the input is
    not what is wrong.
    """

    def __init__(
        self, message: str | None = None, *, fields: Sequence[dict[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.fields = list(fields)


class InvalidArgumentsError(InvalidInputError):
    """The edited arguments do not fit the tool's JSON schema.

    The pointers of its `fields` are into what was given as `edit`, and begin with the call's id.
    """


class InvalidTagsError(InvalidInputError):
    """The tags cannot be used.

    The pointers of its `fields` are into what was given as `tags`, and begin with the tag's name.
    """


class AlreadyStartedError(EntrypointError):
    """A workflow with this id was started already, differently."""


class QueueFullError(EntrypointError):
    """As many workflows wait in the queue as may."""


class InvalidQueryError(TimestepError):
    """A filter, limit or cursor cannot be used."""


class HostUnreachableError(TimestepError):
    """The host cannot be reached."""


class RemoteError(TimestepError):
    """A host refused, or failed, in a way that no other of these errors stands for.

    `status` is HTTP's, such as 401: no token, or an unknown one; 403: its role does not allow it.
    `type` is that of the problem document, such as `urn:timestep:busy`, and `detail` what it says.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int = 0,
        type: str = "about:blank",  # noqa: A002  # as the document names it
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.detail = detail


class UnknownTokenError(TimestepError):
    """There is no such token of the HTTP API."""


class TokenNameTakenError(TimestepError):
    """Another token of the HTTP API has the name."""


class RunTimeoutError(TimestepError, TimeoutError):
    """The run's timeout was over before it ended."""


class UnknownRunError(TimestepError):
    """There is no such run."""


class UnknownSessionError(TimestepError):
    """There is no such session."""


class AlreadyEndedError(TimestepError):
    """The workflow has ended."""


class UnknownCheckpointError(TimestepError):
    """The run has no such checkpoint."""


class TakeoverError(TimestepError):
    """The workflow cannot go on from its newest checkpoint."""


class UnknownInterruptionError(TimestepError):
    """There is no such interruption."""


class AlreadyResolvedError(TimestepError):
    """The interruption was decided already, and differently."""


class ChangedQuestionError(TimestepError):
    """What is to be decided is not what was shown.

    `changes` says of each question what is asked now (`id`, `hash`, `tool_name`, `arguments`,
    `agent_name`), the hash that was `expected`, and `was`: the question that had it, if the
    workflow has asked one.
    """

    def __init__(
        self, message: str | None = None, *, changes: Sequence[dict[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.changes = list(changes)


class NobodyWaitsError(TimestepError):
    """The workflow that asked has ended: nothing would follow the decision."""


class ExpiredLinkError(TimestepError):
    """The time of the one-time link is over: log in to decide."""


class StateError(TimestepError):
    """The state of a run cannot be saved or loaded."""


class UnknownStateError(StateError):
    """No state is saved there."""


class CorruptStateError(StateError):
    """What is saved there is not the whole state of a run."""


class StateTooNewError(StateError):
    """A newer Agents SDK saved this state: upgrade openai-agents."""


class ForeignStateError(StateError):
    """This state belongs to another SDK, or to other agents."""


class StepError(TimestepError):
    """A step failed. What it raised is in the run's rows, and reaches the caller as it was.

    `reference` says in which row: `run_id`, `table` and `id`.
    """

    reference: dict[str, str] | None = None

    @property
    def data(self) -> dict[str, str] | None:
        """The reference, under the name that DBOS's portable JSON keeps."""
        return self.reference


class ReplayError(TimestepError):
    """The record of this run and the code that replays it disagree."""


class UnreadableValueError(TimestepError, LookupError):
    """A recorded value cannot be made again: register its class with timestep.register_type."""


class UnrecordableError(TimestepError, TypeError):
    """A value of a workflow cannot be recorded as JSON and come back."""


class PickledRecordError(TimestepError):
    """It is recorded as a pickle, which only a host with TIMESTEP_READ_PICKLES=true reads."""


class ProcessExitError(TimestepError):
    """What a run calls may not end the process that executes the run."""


class NotAnExceptionError(TimestepError):
    """What a run calls may raise Exceptions only: nobody could answer anything else."""


class CancelledItselfError(TimestepError):
    """A workflow ended in a `CancelledError`, though nobody had cancelled it."""


class RecordedError(TimestepError):
    """An error was recorded that cannot come back as what it was.

    An instance of the nearest class that can, too, so that `except` clauses choose as they would.
    `type_name` is the class's full name as it was recorded.
    """

    recorded_as: dict[str, Any] | None = None
    """What was recorded of it; None: it was raised as what it is."""

    def __init__(self, message: str | None = None, *, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name

    def __str__(self) -> str:
        """What the error said when it was recorded."""
        return super().__str__() if self.recorded_as is None else str(self.recorded_as["text"])

    def __repr__(self) -> str:
        """The same; the class that it stands for may write attributes that are gone."""
        return f"{type(self).__name__}({str(self)!r})"

    # Nor is it compared by them.
    __eq__ = BaseException.__eq__
    __hash__ = BaseException.__hash__

    @property
    def message(self) -> str:
        """The same."""
        return str(self)
