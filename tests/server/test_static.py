"""The built page is that of the sources beside it, and is part of the package."""

import json
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import eventstore

PAGE = Path(eventstore.__file__).parents[1] / "tools" / "page"
STATIC = files("eventstore.server") / "static"


def test_each_file_is_the_built_one() -> None:
    manifest = json.loads((STATIC / "manifest.json").read_bytes())
    found = {one.name: sha256(one.read_bytes()).hexdigest() for one in STATIC.iterdir() if one.name != "manifest.json"}
    assert found == manifest["files"], "run npm run build in tools/page"


def test_it_was_built_from_these_sources() -> None:
    manifest = json.loads((STATIC / "manifest.json").read_bytes())
    sources = [*PAGE.joinpath("src").rglob("*"), PAGE / "package-lock.json", PAGE / "build.mjs"]
    names = sorted(str(one.relative_to(PAGE)) for one in sources if one.is_file())
    text = "".join(f"{name} {sha256((PAGE / name).read_bytes()).hexdigest()}\n" for name in names)
    assert sha256(text.encode()).hexdigest() == manifest["sources"], "run npm run build in tools/page"


def test_it_holds_no_address_of_elsewhere_that_it_would_load() -> None:
    index = (STATIC / "index.html").read_text("utf-8")
    assert "http" not in index
    css = (STATIC / "app.css").read_text("utf-8")
    assert "url(" not in css
    assert "@import" not in css
