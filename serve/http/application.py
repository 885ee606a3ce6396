"""The application: every route of the server, in its layers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...runtime.classifier import VideoClassifier
from .classify import classify, models
from .guard import Guard
from .inference import describe_model, describe_server, infer, model_ready
from .limits import Limits
from .metrics import CONTENT_TYPE_LATEST, Metrics
from .openapi import describe_api
from .page import page_routes
from .places import Places
from .recorded import Recorded
from .refusal import Refusal, answer_http_error, answer_refusal
from .service import Service
from .timeline import explain, timeline

VERSIONS = ("", "/versions/{version}")  # a model may be named with its version


async def live(_: Request) -> Response:
    """Answer that the server runs."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """Answer whether every model can be asked."""
    is_ready = request.state.service.is_ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


async def metrics(request: Request) -> Response:
    """Answer with what was counted, for Prometheus."""
    return Response(request.state.service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def openapi(_: Request) -> Response:
    """Answer with the description of this server."""
    return JSONResponse(describe_api())


def create_app(served: Mapping[str, VideoClassifier], limits: Limits) -> Starlette:
    """Make the ASGI application that serves some models.

    Args:
        served: models by the names that clients call them by. The application closes them when it ends.
        limits: what is taken from clients, and done at once.
    """
    places = Places(limits.queue)
    counted = Metrics(lambda: places.held)
    guard = Middleware(Guard, places=places, limits=limits)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        service = Service.open(served, limits, counted)
        try:
            yield {"service": service}
        finally:
            await service.close()

    return Starlette(
        routes=[
            Route("/v1/classify", classify, methods=["POST"], middleware=[guard]),
            Route("/v1/timeline", timeline, methods=["POST"], middleware=[guard]),
            Route("/v1/explain", explain, methods=["POST"], middleware=[guard]),
            Route("/v1/models", models),
            Route("/v2/health/live", live),
            Route("/v2/health/ready", ready),
            Route("/v2", describe_server),
            *(Route(f"/v2/models/{{model}}{version}", describe_model) for version in VERSIONS),
            *(Route(f"/v2/models/{{model}}{version}/ready", model_ready) for version in VERSIONS),
            *(
                Route(f"/v2/models/{{model}}{version}/infer", infer, methods=["POST"], middleware=[guard])
                for version in VERSIONS
            ),
            *page_routes(),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
        ],
        middleware=[Middleware(Recorded, metrics=counted)],
        exception_handlers={HTTPException: answer_http_error, Refusal: answer_refusal},
        lifespan=lifespan,
    )
