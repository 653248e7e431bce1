"""The page: its built files, from the package, and from nowhere else."""

from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from eventstore.server.problems import Problem, answer

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
}


class Page:
    """The files of the page, held in memory. Every other path is the page itself: it reads what to show from its address."""

    def __init__(self) -> None:
        folder = files("eventstore.server") / "static"
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for one in folder.iterdir():
            kind = _TYPES.get(one.name.rpartition(".")[2])
            if kind is not None:
                data = one.read_bytes()
                self._files[one.name] = data, kind, f'"{sha256(data).hexdigest()[:32]}"'

    async def file(self, request: Request) -> Response:
        """Answer with one file of the page."""
        return self._answer(request, request.path_params["name"])

    async def index(self, request: Request) -> Response:
        """Answer with the page."""
        return self._answer(request, "index.html")

    async def icon(self, request: Request) -> Response:
        """Answer with the icon that browsers ask for by themselves."""
        return self._answer(request, "icon.svg")

    def _answer(self, request: Request, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            return answer(Problem("Not found", 404, "the page has no such file"))
        data, kind, tag = found
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=None, headers=headers | {"content-type": kind})
