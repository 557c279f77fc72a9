"""The OpenAPI document of the server, made from what operations declare of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optidash_integrations import __version__
from optidash_integrations.declarations import Nested, Operation, Parameter, parameters_of
from optidash_integrations.limits import Limits
from optidash_integrations.operations import DECLARED
from optidash_integrations.values import (
    Boolean,
    Choice,
    Factor,
    Integer,
    Kind,
    Number,
    Point,
    Side,
    Turn,
    WebAddress,
    Within,
)

Schema = dict[str, Any]

JSON = "application/json"
RATE_HEADERS = {
    "X-RateLimit-Limit": "Requests that a period may have",
    "X-RateLimit-Remaining": "Requests left in it",
    "X-RateLimit-Reset": "Seconds to the next one",
}
FAILURES = {
    400: "What was sent can't be read",
    401: "No key, or one that is not valid",
    402: "The monthly quota is used up",
    403: "The key, or the connection, is not for this",
    404: "There is no such thing",
    408: "The request came too slowly",
    409: "The name is taken",
    413: "The image, or the document, is too large",
    415: "What was sent is not of a type that is taken",
    422: "The request can be read, and is not one that can be done",
    429: "Too many requests",
    503: "Too many requests wait; Retry-After tells when to come again",
}
OF_IMAGES = (400, 401, 402, 403, 408, 413, 415, 422, 429, 503)
OF_KEYS = (400, 401, 403, 404, 408, 409, 413, 422, 429, 503)
OF_READING = (401, 403, 422, 429, 503)


def document(base_url: str, limits: Limits) -> Schema:
    """Return the document, for a server at this address with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Optidash Image API, self-hosted", "version": __version__},
        "servers": [{"url": f"{base_url}/1.0"}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths(limits),
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {
                "Operations": operations_schema(limits),
                "Image": IMAGE,
                "Result": RESULT,
                "Failure": FAILURE,
            },
        },
    }


def paths(limits: Limits) -> Schema:
    document, name = ref("Operations"), {"type": "string", "minLength": 1, "maxLength": 100}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}, "data": document},
    }
    fetch = {
        "allOf": [
            document,
            {
                "type": "object",
                "required": ["url"],
                "properties": {
                    "url": {"type": "string", "format": "uri"},
                    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        ]
    }
    naming = {"type": "object", "required": ["name"], "properties": {"name": name}}
    path = {"in": "path", "required": True, "schema": {"type": "string"}}
    binary = {
        "in": "header",
        "name": "X-Optidash-Binary",
        "description": "1: the answer is the image itself",
        "schema": {"enum": ["1", "true"]},
    }
    encoding = {
        "multipart/form-data": {"schema": form, "encoding": {"data": {"contentType": JSON}}}
    }
    return {
        "/upload": {
            "post": call("Process an image that is sent", image_answers(), encoding, [binary])
        },
        "/fetch": {
            "post": call(
                "Process an image that the server fetches",
                image_answers(),
                {JSON: {"schema": fetch}},
                [binary],
            )
        },
        "/account": {"get": call("Show the account", answers(OF_READING))},
        "/keys": {
            "post": call("Make a sub-key", answers(OF_KEYS), {JSON: {"schema": naming}}),
        },
        "/keys/{key}": {
            "put": call(
                "Rename a sub-key",
                answers(OF_KEYS),
                {JSON: {"schema": naming}},
                [{**path, "name": "key"}],
            )
        },
        "/webhooks/": {"get": call("List webhooks", answers(OF_READING), None, LISTING)},
        "/webhooks/{id}": {
            "get": call(
                "Show a webhook", answers((*OF_READING, 404)), None, [{**path, "name": "id"}]
            )
        },
    }


def call(
    summary: str,
    answered: Schema,
    content: Schema | None = None,
    parameters: list[Schema] | None = None,
) -> Schema:
    found: Schema = {"summary": summary, "responses": answered}
    if content is not None:
        found["requestBody"] = {"required": True, "content": content}
    if parameters:
        found["parameters"] = parameters
    return found


def answers(failures: tuple[int, ...], good: Schema | None = None) -> Schema:
    """Return the answers of a call: a success, and those failures."""
    success = good or {"200": answer("Success", {"type": "object"})}
    refused = {str(status): answer(FAILURES[status], ref("Failure")) for status in failures}
    return success | refused


def image_answers() -> Schema:
    result = answer("The result", ref("Result"))
    result["content"]["image/*"] = {"schema": {"type": "string", "format": "binary"}}
    return answers(OF_IMAGES, {"200": result, "202": answer("Accepted", {"type": "object"})})


def answer(text: str, schema: Schema) -> Schema:
    headers = {
        name: {"description": told, "schema": {"type": "string"}}
        for name, told in RATE_HEADERS.items()
    }
    return {"description": text, "headers": headers, "content": {JSON: {"schema": schema}}}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


# Operations


def operations_schema(limits: Limits) -> Schema:
    """Return the schema of an operations document."""
    known = {name: operation_schema(kind, limits) for name, kind in DECLARED.items()}
    response = {"type": "object", "properties": {"mode": {"enum": ["json", "binary"]}}}
    others = {name: {"type": "object"} for name in ("store", "webhook", "cdn")}
    stylize = {"allOf": [known["filter"]], "deprecated": True}
    return {
        "type": "object",
        "properties": {**known, "stylize": stylize, "response": response, **others},
    }


def operation_schema(operation: type[Operation], limits: Limits) -> Schema:
    found = parameters_of(operation)
    return {
        "type": "object",
        "description": " ".join((operation.__doc__ or "").split()),
        "properties": {name: parameter_schema(known, limits) for name, known in found.items()},
        "additionalProperties": False,
    }


def parameter_schema(parameter: Parameter, limits: Limits) -> Schema:
    kind: Kind[Any] = parameter.kind
    if isinstance(kind, Nested):
        return operation_schema(kind.of, limits)
    return {**type_schema(kind, limits), "description": kind.expected(limits)}


def type_schema(kind: Kind[Any], limits: Limits) -> Schema:
    """Return what JSON Schema can say of a kind of value."""
    if isinstance(kind, Integer):
        high = {} if kind.high is None else {"maximum": kind.high}
        return {"type": "integer", "minimum": kind.low, **high}
    if isinstance(kind, Side):
        return {"type": "integer", "minimum": 1, "maximum": getattr(limits, kind.limit)}
    if isinstance(kind, Factor):
        return {"type": "integer", "minimum": 2, "maximum": kind.high}
    if isinstance(kind, Number):
        return {"type": "number", "exclusiveMinimum": 0}
    if isinstance(kind, Within):
        return {"type": "number", "minimum": kind.low, "maximum": kind.high}
    if isinstance(kind, Choice):
        return {"type": "string", "enum": list(kind.words)}
    if isinstance(kind, Point):
        number = {"type": "number", "minimum": 0, "maximum": 1}
        return {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return dict(PLAIN.get(type(kind), {"type": "string"}))


PLAIN: Mapping[type, Schema] = {
    Boolean: {"type": "boolean"},
    Turn: {"type": "number"},
    WebAddress: {"type": "string", "format": "uri"},
}


# Answers


def maybe(kind: str) -> Schema:
    return {"type": [kind, "null"]}


IMAGE: Schema = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "name": {"type": "string"},
        "format": {"type": "string"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "colorspace": maybe("string"),
        "interlaced": maybe("boolean"),
        "sampling": maybe("string"),
        "depth": maybe("integer"),
        "quality": maybe("integer"),
        "bytes": {"type": "integer"},
        "sha1": {"type": "string"},
    },
}
RESULT: Schema = {
    "type": "object",
    "required": ["success", "code", "id", "input", "output"],
    "properties": {
        "success": {"const": True},
        "code": {"type": "integer"},
        "id": {"type": "string", "format": "uuid"},
        "input": ref("Image"),
        "output": ref("Image"),
        "faces": {"type": "array"},
        "palette": {"type": "array"},
        "placeholder": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
}
FAILURE: Schema = {
    "type": "object",
    "required": ["success", "code", "id", "message"],
    "properties": {
        "success": {"const": False},
        "code": {"type": "integer"},
        "id": {"type": "string", "format": "uuid"},
        "message": {"type": "string"},
    },
}
LISTING: list[Schema] = [
    {"in": "query", "name": "status", "schema": {"type": "string"}},
    {"in": "query", "name": "start", "schema": {"type": "string", "format": "date-time"}},
    {"in": "query", "name": "end", "schema": {"type": "string", "format": "date-time"}},
    {"in": "query", "name": "offset", "schema": {"type": "integer", "minimum": 0}},
    {"in": "query", "name": "limit", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
]
