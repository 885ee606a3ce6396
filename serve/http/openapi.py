"""What OpenAPI tools read of the server."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from .classify import OPTIONS
from .options import Option
from .timeline import EXPLAIN, TIMELINE

_ERRORS = {
    400: "An option that there is not, or a value that it cannot have.",
    404: "No such model.",
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The body is no video, or one that is damaged or over the limits.",
    500: "The engine failed.",
    503: "Too much is going on: try again after Retry-After seconds.",
}


_TEXT = {"type": "string"}


def describe_api() -> dict[str, Any]:
    """Describe the server as an OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "tubelet", "version": version("tubelet"), "description": "Says what happens in videos."},
        "paths": {
            "/v1/classify": {
                "post": _of_video(
                    "classify", "Say what happens in a video.", OPTIONS, _json("What is said of it.", "Classification")
                )
            },
            "/v1/timeline": {
                "post": _of_video(
                    "timeline",
                    "Say what happens in each part of a video, a line as soon as it is known.",
                    TIMELINE,
                    {"description": "Lines of JSON.", "content": {"application/x-ndjson": {"schema": _TEXT}}},
                )
            },
            "/v1/explain": {
                "post": _of_video(
                    "explain",
                    "Show where the model looked in one part of a video, where the bundle has attentions.",
                    EXPLAIN,
                    _json("Frames, and the same under a map, as data URLs of JPEG.", "Explanation"),
                )
            },
            "/v1/models": {"get": _plain("listModels", "The models, their labels, and the limits of the server.")},
            "/v2/health/live": {"get": _plain("live", "Whether the server runs.")},
            "/v2/health/ready": {"get": _plain("ready", "Whether every model can be asked.")},
            "/v2": {"get": _plain("describeServer", "What the server is, in the Open Inference Protocol.")},
            **{path: item for version in (False, True) for path, item in _protocol(version=version).items()},
        },
        "components": {"schemas": _SCHEMAS},
    }


def _of_video(name: str, summary: str, options: Iterable[Option], answer: dict[str, Any]) -> dict[str, Any]:
    """A request whose body is a video."""
    video = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"video": video}, "required": ["video"]}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters(options),
        "requestBody": {
            "required": True,
            "description": "The bytes of a video file, as they are or as the file of a form.",
            "content": {"application/octet-stream": {"schema": video}, "multipart/form-data": {"schema": form}},
        },
        "responses": {"200": answer} | errors(),
    }


def _protocol(*, version: bool) -> dict[str, Any]:
    """The paths of the Open Inference Protocol to a model, or to a version of it."""
    names = ["model", "version"] if version else ["model"]
    path = "/v2/models/{model}" + ("/versions/{version}" if version else "")
    suffix = "Version" if version else ""
    shared = {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    }
    tensors = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Inference"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    infer = {
        "operationId": f"infer{suffix}",
        "summary": "Say what a model makes of tensors, in JSON or behind it as bytes.",
        "requestBody": {"required": True, "content": tensors},
        "responses": {"200": {"description": "The outputs.", "content": tensors}} | errors(),
    }
    return {
        path: shared | {"get": _plain(f"describeModel{suffix}", "What a model takes and gives.")},
        f"{path}/ready": shared | {"get": _plain(f"modelReady{suffix}", "Whether a model can be asked.")},
        f"{path}/infer": shared | {"post": infer},
    }


def parameters(options: Iterable[Option]) -> list[dict[str, Any]]:
    """The query of a route."""
    return [
        {"name": option.name, "in": "query", "description": option.describe, "schema": option.schema}
        for option in options
    ]


def errors() -> dict[str, Any]:
    """The answers that are no answer, by status."""
    return {str(status): _json(why, "Error") for status, why in _ERRORS.items()}


def _json(describe: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": describe, "content": content}


def _plain(name: str, summary: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer}}


def _per_clip(item: dict[str, Any]) -> dict[str, Any]:
    """A list of `item`, or with several clips a list of those."""
    one = {"type": "array", "items": item}
    return {"anyOf": [one, {"type": "array", "items": one}]}


_SCHEMAS = {
    "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    "Inference": {
        "type": "object",
        "description": "A request has inputs, an answer has outputs: name, datatype, shape, and data or parameters.",
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": {"type": "object"}},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": {"type": "object"},
        },
    },
    "Prediction": {
        "type": "object",
        "description": "A label and its score, from 0 to 1; of a regression, its value.",
        "properties": {"label": {"type": "string"}, "score": {"type": "number"}, "value": {"type": "number"}},
        "required": ["label"],
    },
    "Explanation": {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "window": {"type": "integer"},
            "from": {"type": ["number", "null"]},
            "to": {"type": ["number", "null"]},
            "seconds": {"type": "array", "items": {"type": ["number", "null"]}},
            "frames": {"type": "string"},
            "overlay": {"type": "string"},
        },
        "required": ["model", "window", "from", "to", "seconds", "frames", "overlay"],
    },
    "Classification": {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
            "frames": _per_clip({"type": "integer"}) | {"description": "Which frames of the file, from 0."},
            "seconds": _per_clip({"type": ["number", "null"]}) | {"description": "When they are shown."},
            "stood_in": {"type": "integer", "description": "With on_error=skip: frames that another stands in for."},
            "skipped_packets": {"type": "integer", "description": "With on_error=skip: damaged packets."},
            "stages_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["model", "predictions", "frames", "seconds", "stages_ms"],
    },
}
