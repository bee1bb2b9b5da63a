"""`timestep open` tells, and opens, the address of the pages."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner, Result

from timestep.cli import main


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Where something answers as a host does."""
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened in a browser."""
    found: list[str] = []

    def once(url: str) -> bool:
        found.append(url)
        return len(found) == 1

    monkeypatch.setattr(webbrowser, "open", once)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["open", *arguments])


def test_the_page_of_a_host_or_a_run_is_opened(
    port: int, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_PORT", str(port))
    monkeypatch.setenv("TIMESTEP_HOST", "0.0.0.0")
    base = f"http://127.0.0.1:{port}"
    assert run().stdout == f"{base}/\n"
    assert run("--print", "a/b").stdout == f"{base}/runs/a%2Fb\n"
    monkeypatch.setenv("TIMESTEP_URL", f"{base}/")
    monkeypatch.setenv("TIMESTEP_PORT", "1")
    told = run("w").stdout
    assert told == f"{base}/runs/w\nno browser is found here: open the address in one\n"
    assert opened == [f"{base}/", f"{base}/runs/w"]


def test_where_no_host_listens_it_says_what_to_do(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # It does not listen.
        monkeypatch.setenv("TIMESTEP_PORT", str(taken.getsockname()[1]))
        done = run()
    assert done.exit_code == 1
    assert "cannot be reached" in done.stderr
    assert "start a host with `timestep serve`, or name one with TIMESTEP_URL" in done.stderr
    monkeypatch.setenv("TIMESTEP_PORT", "0")
    done = run("w")
    assert done.exit_code == 1
    assert "set TIMESTEP_URL to the address that `timestep serve` told" in done.stderr
    assert opened == []
