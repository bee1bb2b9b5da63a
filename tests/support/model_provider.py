"""A model provider on this machine that answers, and misbehaves, as a test says."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Handler(BaseHTTPRequestHandler):
    """One request; what happens to it is the next behaviour of its provider."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.provider.connections.append(self.connection)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        provider: Provider = self.server.provider  # type: ignore[attr-defined]  # set below
        provider.requests.append(body)
        self.is_chat = self.path.endswith("/chat/completions")
        self.is_streamed = bool(body.get("stream"))
        provider.behaviours.pop(0)(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drop(self) -> None:
        """Cut the connection off, as a network does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.wfile = self.rfile = _Nowhere()  # type: ignore[assignment]  # nothing to flush


class _Nowhere:
    closed = True

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass


Behaviour = Callable[[Handler], None]


class Provider:
    """Where it is, what it will do, and what it was asked."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        self.behaviours: list[Behaviour] = []
        self.requests: list[dict[str, Any]] = []
        self.connections: list[socket.socket] = []


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(server)
    server.provider = provider  # type: ignore[attr-defined]  # read by the handler
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    yield provider
    server.shutdown()
    server.server_close()
    # A client may have left its connection open, and the thread that serves it waiting.
    for connection in provider.connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    thread.join()


def fails(status: int, code: str = "bad", **headers: str) -> Behaviour:
    body = json.dumps({"error": {"message": "no", "type": code, "code": code}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(
        status, body, {"content-type": "application/json", **named}
    )


def drops(handler: Handler) -> None:
    handler.drop()


def hangs_until(release: threading.Event) -> Behaviour:
    def hang(handler: Handler) -> None:
        release.wait(60)
        handler.drop()

    return hang


def answers(handler: Handler) -> None:
    if handler.is_streamed:
        body = b"".join(_chunks(handler.is_chat))
        handler.reply(200, body, {"content-type": "text/event-stream"})
    else:
        whole = _completion() if handler.is_chat else _response()
        handler.reply(200, json.dumps(whole).encode(), {"content-type": "application/json"})


def breaks_off(handler: Handler) -> None:
    """The connection is lost after some of the answer."""
    if not handler.is_streamed:
        handler.drop()
        return
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for chunk in _chunks(handler.is_chat)[:3]:
        handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    handler.wfile.flush()
    handler.close_connection = True


def fails_speaking(handler: Handler) -> None:
    """The stream says that the provider failed."""
    error = {"error": {"message": "no", "type": "server_error", "code": "server_error"}}
    chunks = [*_chunks(handler.is_chat)[:3], f"data: {json.dumps(error)}\n\n".encode()]
    handler.reply(200, b"".join(chunks), {"content-type": "text/event-stream"})


def ends_after(events: int, of_the_next: float = 0.0, rest: bytes = b"") -> Behaviour:
    """The stream ends in good order, but too early.

    Args:
        events: How many of the answer's events are sent whole.
        of_the_next: How much of the next one is sent: a fraction of its bytes.
        rest: What is sent after that.
    """

    def end(handler: Handler) -> None:
        chunks = _chunks(handler.is_chat)
        next_one = chunks[events]
        sent = [*chunks[:events], next_one[: int(len(next_one) * of_the_next)], rest]
        handler.reply(200, b"".join(sent), {"content-type": "text/event-stream"})

    return end


ends_early = ends_after(3)


def says_no_finish_reason(handler: Handler) -> None:
    choices = [{**_completion()["choices"][0], "finish_reason": None}]
    says(json.dumps({**_completion(), "choices": choices}))(handler)


def says(body: str, content_type: str = "application/json") -> Behaviour:
    """A body that is no answer, with status 200; not for streams."""
    return lambda handler: handler.reply(200, body.encode(), {"content-type": content_type})


def answers_in_part(part: float) -> Behaviour:
    """The body ends in good order after a fraction of its bytes; not for streams."""

    def answer(handler: Handler) -> None:
        body = json.dumps(_completion() if handler.is_chat else _response()).encode()
        handler.reply(200, body[: int(len(body) * part)], {"content-type": "application/json"})

    return answer


def _chunks(is_chat: bool) -> list[bytes]:
    if is_chat:
        pieces: list[Any] = [
            _piece({"role": "assistant", "content": ""}),
            *(_piece({"content": text}) for text in ("Hel", "lo")),
            _piece({}, "stop"),
            {**_piece({}), "choices": [], "usage": _completion()["usage"]},
        ]
        lines = [f"data: {json.dumps(piece)}\n\n".encode() for piece in pieces]
        return [*lines, b"data: [DONE]\n\n"]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    started = {**_response(), "output": [], "status": "in_progress", "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.output_text.delta", **place, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", **place, "delta": "lo", "logprobs": []},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": _response()["output"][0],
        },
        {"type": "response.completed", "response": _response()},
    ]
    return [
        f"event: {e['type']}\ndata: {json.dumps({**e, 'sequence_number': n})}\n\n".encode()
        for n, e in enumerate(events)
    ]


def _piece(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chat_1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def _completion() -> dict[str, Any]:
    return {
        "id": "chat_1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello"},
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }


def _response() -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 9,
        },
    }


def answers_with(keys: dict[str, Any]) -> Behaviour:
    """An answer whose events and items have other keys, too, as a gateway may add them."""

    def marked(event: dict[str, Any]) -> dict[str, Any]:
        found = {**event, **keys}
        if "item" in event:
            found["item"] = {**event["item"], **keys}
        if "response" in event:
            found["response"] = whole(event["response"])
        return found

    def whole(response: dict[str, Any]) -> dict[str, Any]:
        return {**response, "output": [{**item, **keys} for item in response["output"]], **keys}

    def answer(handler: Handler) -> None:
        if not handler.is_streamed:
            body = json.dumps(whole(_response())).encode()
            handler.reply(200, body, {"content-type": "application/json"})
            return
        events = [json.loads(chunk.partition(b"data: ")[2]) for chunk in _chunks(is_chat=False)]
        body = b"".join(
            f"event: {event['type']}\ndata: {json.dumps(marked(event))}\n\n".encode()
            for event in events
        )
        handler.reply(200, body, {"content-type": "text/event-stream"})

    return answer
