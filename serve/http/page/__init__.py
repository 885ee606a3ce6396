"""The page of the server: a folder of plain files, read once and served from memory."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

INDEX = "index.html"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_routes() -> list[Route]:
    """One route for each file. Their names are those in the folder; none comes from a client."""
    folder = files(__name__)
    found = [file for file in folder.iterdir() if any(file.name.endswith(suffix) for suffix in KINDS)]
    return [_route(file.name, file.read_bytes()) for file in found]


def _route(name: str, content: bytes) -> Route:
    kind = KINDS[name[name.rindex(".") :]]

    async def page(_: Request) -> Response:
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Cache-Control": "no-cache"}
        return Response(content, headers=headers)

    return Route("/" if name == INDEX else f"/page/{name}", page, name=name)
