"""The doctor tells of settings that are misspelt, of ports that are taken, and of no folder."""

from __future__ import annotations

import http.server
import socket
import threading
from pathlib import Path

import pytest

from timestep.operations.diagnosis import doctor

ALL = (
    *("settings", "address", "escalation", "packages", "agents SDK"),
    *("database", "schema", "rights", "serializer", "entrypoints"),
)


def found(check: str) -> doctor.Finding:
    (one,) = doctor.examine(without=[name for name in ALL if name != check])
    return one


def test_a_setting_that_there_is_not_is_told_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found("settings").mark == "ok"
    monkeypatch.setenv("TIMESTEP_PROT", "5")
    monkeypatch.setenv("TIMESTEP_XYZZY", "secret")
    told = found("settings")
    assert told.mark == "doubt"
    assert told.text == (
        "TIMESTEP_PROT is set, and there is no such setting: TIMESTEP_PORT is one; "
        "TIMESTEP_XYZZY is set, and there is no such setting"
    )


class Alive(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status":"ok"}' if self.path == "/healthz" else b"{}"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


def test_a_port_that_another_program_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("TIMESTEP_PORT", str(port))
        answering = threading.Thread(target=lambda: other.accept()[0].close())
        answering.start()
        told = found("address")
        answering.join()
        assert told.mark == "doubt"
        assert f"another program listens on 127.0.0.1:{port}" in told.text
    monkeypatch.setenv("TIMESTEP_PORT", "0")
    assert found("address").text.startswith("127.0.0.1:0 is free for a host")

    with http.server.HTTPServer(("127.0.0.1", 0), Alive) as host:
        port = host.server_port
        monkeypatch.setenv("TIMESTEP_PORT", str(port))
        serving = threading.Thread(target=host.handle_request)
        serving.start()
        told = found("address")
        serving.join()
    assert (told.mark, told.text.partition(",")[0]) == ("ok", f"a host listens on 127.0.0.1:{port}")


def test_an_address_of_elsewhere_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_HOST", "192.0.2.1")
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "ann:viewer:" + "x" * 32)
    told = found("address")
    assert told.mark == "problem"
    assert "a host cannot listen on 192.0.2.1:8000" in told.text


def test_an_application_that_launches_dbos_itself_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = found("entrypoints")
    assert told.mark == "doubt"
    assert "an application that launches DBOS itself does not" in told.text
