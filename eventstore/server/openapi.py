"""The OpenAPI 3.1 document, made from the table of routes."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from eventstore.server.problems import Problem
from eventstore.server.route import EVENTS, Route

_REF = "#/components/schemas/{name}"


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Describe the routes: parameters, bodies, answers and problems, as JSON values."""
    known = list(routes)
    kinds = [Problem, *(one.result for one in known), *(one.body for one in known if one.body is not None)]
    fields = [(route, field) for route in known for field in msgspec.structs.fields(route.query)]
    schemas, components = msgspec.json.schema_components(
        [*kinds, *(field.type for _, field in fields)], ref_template=_REF
    )
    result_of = dict(zip(known, schemas[1 : len(known) + 1], strict=True))
    body_of = dict(
        zip([one for one in known if one.body is not None], schemas[len(known) + 1 : len(kinds)], strict=True)
    )
    parameters: dict[Route, list[dict[str, Any]]] = {route: [] for route in known}
    for (route, field), schema in zip(fields, schemas[len(kinds) :], strict=True):
        parameters[route].append(_parameter(field, schema))
    paths: dict[str, dict[str, Any]] = {}
    for route in known:
        names = re.findall(r"\{(\w+)\}", route.path)
        found = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, found + parameters[route], result_of[route], body_of.get(route)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "eventstore",
            "version": version,
            "description": "Sessions of AI agents, as of any moment. `at` is a number of events or an RFC 3339 time.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _parameter(field: msgspec.structs.FieldInfo, schema: dict[str, Any]) -> dict[str, Any]:
    found = {"name": field.encode_name, "in": "query", "required": field.required, "schema": schema}
    if "list" in str(field.type):
        found |= {"style": "form", "explode": True}
    return found


def _operation(
    route: Route, parameters: list[dict[str, Any]], result: dict[str, Any], body: dict[str, Any] | None
) -> dict[str, Any]:
    # Of a stream the schema is that of the data of each event.
    content: dict[str, Any] = {
        name: {"schema": {"type": "object" if name in EVENTS else "string"}} for name in route.media
    }
    content = content or {"application/json": {"schema": result}}
    found: dict[str, Any] = {
        "operationId": route.run.__name__,
        "summary": route.summary,
        "parameters": [
            *parameters,
            *(
                {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
                for name in route.headers
            ),
        ],
        "responses": {
            str(route.status): {"description": "done", "content": content},
            "default": {
                "description": "a problem",
                "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
            },
        },
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return found
