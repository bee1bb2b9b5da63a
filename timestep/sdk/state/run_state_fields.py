"""Reads what a RunState keeps to itself."""

from __future__ import annotations

from typing import Any

from agents import Agent, ModelResponse, RunContextWrapper, RunState, TResponseInputItem


def input_of(state: RunState[Any]) -> str | list[TResponseInputItem]:
    """What the run began with."""
    return state._original_input


def turn_of(state: RunState[Any]) -> int:
    """How many turns the run has begun."""
    return state._current_turn


def agent_of(state: RunState[Any]) -> Agent[Any] | None:
    """The agent whose turn it is."""
    return state._current_agent


def context_of(state: RunState[Any]) -> RunContextWrapper[Any] | None:
    """The run's context, with what people have decided."""
    return state._context


def newest_answer_of(state: RunState[Any]) -> ModelResponse | None:
    """What a model answered last."""
    return state._model_responses[-1] if state._model_responses else None
