"""An MCP server for tests: what is asked of it leaves a line in a file.

python -m tests.support.mcp_server LOG [stdio | sse | streamable-http] [PORT]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PIXEL = b"\x89PNG\r\n\x1a\n"


def build(log: Path) -> MCPServer:
    """A server whose calls are written to `log`."""

    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(f"{what}\n")

    server = MCPServer("weather", log_level="CRITICAL")
    note(f"start {os.getpid()}")

    @server.tool()
    def forecast(city: str) -> str:
        """Tells the weather of a city."""
        note(f"call forecast {city}")
        return f"{city} is sunny"

    @server.tool()
    def measure(city: str) -> dict[str, Any]:
        """Measures the weather of a city."""
        note(f"call measure {city}")
        return {"zone": 1, "city": city}

    @server.tool()
    def picture() -> Image:
        """Shows the sky."""
        note("call picture")
        return Image(data=PIXEL, format="png")

    @server.tool()
    def storm() -> str:
        """Fails."""
        note("call storm")
        raise ToolError("no shelter")

    @server.tool()
    def crash() -> str:
        """Ends the server."""
        note("call crash")
        os._exit(1)

    list_tools = server.list_tools

    async def noted(*args: Any, **kwargs: Any) -> Any:
        note("list")
        return await list_tools(*args, **kwargs)

    server.list_tools = noted  # type: ignore[method-assign]  # to count what clients ask for
    return server


def main(log: str, transport: str = "stdio", port: str = "0") -> None:
    server = build(Path(log))
    if transport == "stdio":
        server.run("stdio")
    elif transport == "sse":
        server.run("sse", host="127.0.0.1", port=int(port))
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
