"""The only code that touches DBOS's private names.

The journal and everything above may import it. Begin with `workflow_scope`: which execution of
which workflow the caller runs in.

What is used, since which release of DBOS it has that name (2.0 is the oldest that was looked at),
and why. What an object of these gives without an underscore is as private as the object.

name                              since  why
_context
    DBOSContext                   2.0    a task's context: its workflow, step number and owner
    EnterDBOSStepCtx              2.10   to be inside a step: its context and its span
    EnterDBOSWorkflow             2.0    is around an execution: tells when it ends, and with what
    current_owner_xid             3.4    who records the result of a child
    get_local_dbos_context        2.0    the context of the caller
_core
    WorkflowHandleAsyncPolling    2.0    its result is told in its turn, as the next one's
    WorkflowHandleAsyncTask       2.0    tells when a workflow that was started here ends
    _dropping_datasource_checkpoints  3.4  is given each workflow's body; its own calls it
    _init_workflow                2.0    tells that a workflow is new
    execute_dequeued_workflow     2.30   executes a workflow under a token of its owner
dbos
    _core                         2.0    the module, where what bodies and steps are in is replaced
    _dbos                         2.0    the module, where the two below are replaced at launch
    _queue                        2.30   the module, where execute_dequeued_workflow is replaced
_dbos
    _dbos_global_instance         2.0    whether DBOS is there, without an error if it is not
    _dbos_global_registry         2.0    the decorated workflows, before DBOS is there
    _get_dbos_instance            2.0    the launched DBOS
    _get_or_create_dbos_registry  2.0    registers a thread that DBOS starts at launch
    StepReservation               3.4    a drawn step number
_event_loop
    BackgroundEventLoop           2.0    an exit ends its thread, and every workflow with it
_outcome
    Pending                       2.0    what tells the result of a child that is awaited
_recovery
    _recover_workflow             2.0    begins what was claimed before its name was registered
_registrations
    get_func_info                 2.0    how a workflow's input is serialized
_serialization
    DBOSDefaultSerializer         2.5    its pickles, which a host neither reads nor writes
    DBOSPortableJSON              2.5    whether a start that asks for it can be recorded
    deserialize_args              2.14   reads what a workflow was started with
    deserialize_exception         2.14   reads what DBOS holds of a step that failed
    deserialize_value             2.14   reads what DBOS holds of a step
    serialize_exception           2.14   writes what DBOS would hold of a step that failed
    serialize_value               2.14   writes what DBOS would hold of a step
_sys_db
    GetPendingWorkflowsOutput     2.0    what it is given
    StepInfo                      2.0    what it tells of a step that is recorded
    SystemDatabase                2.0    what takes workflows up, and what records that they failed
    db_retry                      2.0    waits for the database, as DBOS's own reads do
_sys_db_postgres
    PostgresSystemDatabase        2.0    whether DBOS's tables are where a step can write them
_utils
    GlobalParams                  2.0    this process's executor and version
    INTERNAL_QUEUE_NAME           2.0    the queue that every host looks into
    generate_uuid                 2.5    a token of an owner, as DBOS makes them
DBOS
    _active_workflows_set         2.0    how many of a queue's workflows run here
    _background_event_loop        2.0    the loop that workflows run on
    _config                       2.0    the application's name
    _initialized                  2.0    whether it is launched, and not about to stop
    _listening_queues             2.10   whether this process listens to a queue
    _registry                     2.0    the queues that code made
    _serializer                   2.5    what the application serializes with
    _sys_db                       2.0    the system database: its schema, queues and workflows
    _sys_db_field                 2.0    whether there is one yet, without an error if not
    _workflow_tasks               2.24   whether the caller is a workflow's own task
BackgroundEventLoop
    _executor                     3.4    the threads of that loop
    _loop                         2.0    what runs again when an exit came out of it
    _ready                        2.0    tells that the loop is there
    _run_event_loop               2.0    what its thread does, and an exit would end
    _running                      2.0    whether it was started
    _thread                       2.0    whether that loop still runs
Queue
    _has_partition_limits         2.31   whether a look at the queue needs a partition
SystemDatabase
    _record_operation_result_txn  2.0    records what has ended, at its place among the others
    _name_filter                  2.31   the condition in all that takes workflows up
StepReservation
    _claim                        3.4    uses the number up, once
    _step_ctx                     3.4    the context of the step that has the number
"""
