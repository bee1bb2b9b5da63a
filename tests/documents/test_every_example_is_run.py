"""Each fenced example of the documents is run, or checked, by a test; the others are named here."""

from __future__ import annotations

import itertools
from collections import Counter

from tests.documents.test_documents_name_what_is_there import defined
from tests.support.documented_examples import ROOT, all_examples, fences

RUN_AS_A_LANGUAGE = {
    "sh": "documents/test_commands_are_as_printed.py:test_programs_take_what_they_are_given",
    "sql": "documents/test_examples_work.py:test_queries_are_answered",
}
"""Languages of which one test takes every example of every page."""

_PYTHON = "documents/test_examples_work.py"
_CONTRIBUTING = "documents/test_examples_for_contributors_work.py"
_PROMETHEUS = "documents/test_what_prometheus_is_given_works.py"
_TYPESCRIPT = "cross_language/test_the_typescript_client.py:test_it_is_typed_and_asks_a_host"
_STATES = "cross_language/test_documented_states.py:test_they_go_on_with_a_state_of_python"

RUN = {
    ("CONTRIBUTING.md", "python"): [
        f"{_CONTRIBUTING}:test_a_replay_of_what_a_host_did",
        f"{_CONTRIBUTING}:test_a_step_of_ones_own",
    ],
    ("README.md", "python"): [f"{_PYTHON}:test_a_tool_of_ones_own"],
    ("docs/approvals.md", "python"): [f"{_PYTHON}:test_an_approval"] * 2,
    ("docs/architecture.md", ""): [
        "documents/test_documents_name_what_is_there.py:test_every_package_is_in_the_drawing"
    ],
    ("docs/clients.md", "python"): [f"{_PYTHON}:test_a_client"],
    ("docs/clients.md", "typescript"): [_TYPESCRIPT],
    ("docs/embedding.md", "python"): [
        f"{_PYTHON}:test_a_tool_of_ones_own",
        f"{_PYTHON}:test_an_application_of_dbos",
    ],
    ("docs/forks.md", "python"): [f"{_PYTHON}:test_a_fork"],
    ("docs/metrics.md", "yaml"): [
        f"{_PROMETHEUS}:test_a_host_is_asked_with_the_token_of_the_file",
        f"{_PROMETHEUS}:test_the_alerts_are_about_what_is_told",
    ],
    ("docs/models.md", "python"): [f"{_PYTHON}:test_a_session_and_who_follows"],
    ("docs/operations.md", "python"): [
        "documents/test_operations_do_as_said.py:test_a_queue_is_made",
        "documents/test_operations_do_as_said.py"
        ":test_what_ended_is_deleted_with_what_it_started_and_nothing_else",
    ],
    ("docs/run-states.md", "python"): [
        "run_states/test_database_store_keeps_states.py"
        ":test_the_documented_example_runs_as_it_is_printed"
    ],
    ("docs/run-states.md", "typescript"): [_STATES],
    ("docs/schema.md", "mermaid"): [
        "store/test_the_schema_is_drawn.py:test_the_golden_drawing_is_the_databases"
    ],
    ("docs/sessions.md", "python"): [f"{_PYTHON}:test_a_session_and_who_follows"],
    ("docs/streaming.md", "js"): [
        "browser/test_the_page_of_a_run.py:test_the_documented_reader_is_told_of_a_run"
    ],
    ("docs/testing.md", "python"): [
        "cli/test_init_makes_an_application.py"
        ":test_the_tests_that_it_makes_pass_and_use_nothing_of_others"
    ],
    ("docs/tools.md", "python"): [f"{_PYTHON}:test_a_tool_that_pays_once"],
    ("timestep/js/README.md", "typescript"): [_STATES, _TYPESCRIPT],
}
"""The test of each example of a page, in their order."""

NOT_RUN = {
    ("CONTRIBUTING.md", ""): "what a profile prints, which differs with every machine",
    ("docs/operations.md", "dockerfile"): "it needs Docker, and an image from elsewhere",
    ("docs/operations.md", "ini"): "it is for a machine's own systemd",
}
"""Why nothing runs the examples of a page in a language."""


def test_every_block_is_found() -> None:
    """A block that is written in another way would be found by no test."""
    assert fences() == 2 * len(all_examples())


def test_every_example_has_a_test_or_a_reason() -> None:
    counted = Counter(
        (one.page, one.language) for one in all_examples() if one.language not in RUN_AS_A_LANGUAGE
    )
    known = {place: len(tests) for place, tests in RUN.items()} | dict.fromkeys(NOT_RUN, 1)
    assert counted == known, "say in this file which test runs the example, or why none does"


def test_these_tests_are_there() -> None:
    for test in itertools.chain(*RUN.values(), RUN_AS_A_LANGUAGE.values()):
        file, _, name = test.partition(":")
        assert name in defined(ROOT / "tests" / file), test
