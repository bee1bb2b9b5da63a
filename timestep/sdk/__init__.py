"""The only code that touches the Agents SDK's private names: the call sites a durable run replaces.

The runner and run states may import it. Begin with `patches`, the table of all call sites.

What is used, since which release of openai-agents it has that name (0.6 is the oldest that was
looked at), and why. Of another library: its name instead.

name                                         since  why
_run_state_agent_identity
    _iter_agent_graph                        0.22   agents that a state must tell apart
_tool_invocation
    tool_invocation_identity                 0.20   by what the SDK knows a call that was edited
exceptions
    _mark_error_to_drain_stream_events       0.15   a stream that fails tells its events first
models.openai_chatcompletions.OpenAIChatCompletionsModel
    _fetch_response                          0.6    call site: an answer, as it came
    _get_client                              0.6    call site: the caller's client, and no copy
models.openai_responses.OpenAIResponsesModel
    _fetch_response                          0.6    call site: an answer, as it came
    _get_client                              0.6    call site: the caller's client, and no copy
models._response_terminal
    response_error_event_failure_error       0.15   the error of a failed stream
    response_terminal_failure_error          0.15   the error of a failed answer
models._retry_runtime
    provider_managed_retries_disabled        0.12   one layer alone tries again
    should_disable_provider_managed_retries  0.12   one layer alone tries again
    websocket_pre_event_retries_disabled     0.12   one layer alone tries again
run_internal
    guardrails                               0.8    call sites of checks
    run_loop                                 0.8    call sites of models and turns
    session_persistence                      0.8    call sites of sessions
    tool_actions                             0.8    call sites of shells, editors, computers
    tool_execution                           0.8    call sites of function tools
    tool_planning                            0.8    call sites of computers and approvals
    tool_use_tracker                         0.8    call site: keys of agents
    turn_resolution                          0.8    call site: whether a call needs approval
run_internal.model_retry
    _await_model_attempt                     0.21   an attempt as the loop makes it
    _evaluate_retry                          0.12   the rules for what may be sent twice
    apply_retry_attempt_usage                0.12   counts attempts that failed
run_internal.run_steps
    NextStepHandoff                          0.8    how a turn ended: another agent goes on
    NextStepInterruption                     0.8    how a turn ended: people are asked
    NextStepRunAgain                         0.8    how a turn ended: the model is asked again
    QueueCompleteSentinel                    0.8    tells a stream's reader that nothing follows
run_internal.session_persistence
    session_items_for_turn                   0.8    what a turn adds to a session
    _call_session_method                     0.20   call site: any session's method
run_internal.tool_actions.ComputerAction
    _execute_action_and_capture              0.8    call site: an action
run_internal.tool_execution
    _invoke_function_tool_with_metadata      0.19   call site: a call
    _FunctionToolBatchExecutor               0.12   call site: a call that failed, and its siblings
run_internal.tool_execution._FunctionToolBatchExecutor
    _raise_failure_after_draining_siblings   0.12   call site: a call that failed, and its siblings
run_internal.tool_use_tracker
    serialize_tool_use_tracker               0.8    the tracker in a state
tool
    _FailureHandlingFunctionToolInvoker      0.10   attempts go inside what answers an error
    _FunctionToolInvocationResult            0.19   what a call gives back to the loop
tool._FailureHandlingFunctionToolInvoker
    __agents_bind_function_tool__            0.10   binds the body to its tool again
    _invoke_tool_impl                        0.10   the body that is attempted
    _on_handled_error                        0.10   what answers the last error
usage
    _attach_raw_usage_snapshot               0.20   a replayed answer's usage, as it came
    _extract_raw_usage_snapshot              0.20   an answer's usage, as it came
    _requests_for_response_without_usage     0.20   what is counted where none is told
    _response_usage_to_usage                 0.18   an answer's usage
mcp.MCPUtil
    _list_tools_with_span                    0.16   call site: a server's tools
run_state
    _build_agent_identity_keys_by_id         0.14   call site: keys of agents
    _get_ambiguous_agent_ids                 0.23   call site: agents of one name
    _has_ambiguous_hook_identities           0.24   call site: agents of one name
FunctionTool
    _agent_instance                          0.8    the agent that a tool is
Handoff
    _agent_ref                               0.8    the agent that a handoff goes to
Model
    _cleanup_on_run_end                      0.18   what a wrapped model does at a run's end
RunContextWrapper
    _approvals                               0.8    whether a call of the turn was rejected
    _copy_for_run_state                      0.21   a state that is written at once needs no copy
    _tool_invocations                        0.20   the calls that a state knows
ToolContext
    _custom_data                             0.17   what a server's extractor made of an answer
RunResult
    _auto_previous_response_id               0.8    goes into a checkpoint
    _conversation_id                         0.8    goes into a checkpoint
    _current_step_for_state                  0.20   goes into a checkpoint
    _current_turn_persisted_item_count       0.8    goes into a checkpoint
    _generated_prompt_cache_key              0.14   goes into a checkpoint
    _last_agent                              0.6    goes into a checkpoint
    _last_processed_response                 0.8    goes into a checkpoint
    _model_input_items                       0.6    goes into a checkpoint
    _nested_history_owned_session_item_refs  0.19   goes into a checkpoint
    _original_input                          0.8    goes into a checkpoint
    _previous_response_id                    0.8    goes into a checkpoint
    _reasoning_item_id_policy                0.9    goes into a checkpoint
    _starting_agent_for_state                0.14   goes into a checkpoint
    _state                                   0.8    the state that a streamed result goes on with
    _tool_use_tracker_snapshot               0.8    goes into a checkpoint
    _trace_state                             0.8    goes into a checkpoint
RunResultStreaming
    _cancel_mode                             0.6    whether a stream was stopped
    _event_queue                             0.6    what a stream's reader reads
    _max_turns_handled                       0.8    whether too many turns were answered
    _stored_exception                        0.6    what a stream's reader is raised
    _triggered_input_guardrail_result        0.14   what a stream's reader is raised
RunState
    _agent_tool_state_scope_id               0.12   the states of the runs inside it
    _context                                 0.8    people's decisions, and the run's context
    _current_agent                           0.8    whose turn it is
    _current_step                            0.8    whether people are asked
    _current_turn                            0.8    where the run is
    _find_nested_approval_state              0.20   the run that asks about a call
    _generated_items                         0.8    what a fork or an edit begins with
    _input_guardrail_results                 0.8    what a run that goes on was told before
    _max_turns                               0.8    what the code says now holds
    _model_responses                         0.8    whose state it is, and what was said before
    _pending_session_write                   0.24   what a session is still to be given of a call
    _session_items                           0.8    what a run that goes on was told before
    _starting_agent                          0.8    where names of agents are told apart from
    _tool_input_guardrail_results            0.8    what a run that goes on was told before
    _tool_output_guardrail_results           0.8    what a run that goes on was told before
CancelScope
    _host_task                               anyio  the loop that an MCP server was connected on
ClientSession
    _task_group                              mcp    the loop that an MCP server was connected on
Response
    _request_id                              openai the provider's number of a request
"""
