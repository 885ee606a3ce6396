"""POST /v1/classify, and GET /v1/models."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...runtime.classifier import Classification
from ...runtime.predictions import answer
from .options import CLIPS_AND_CROPS, MODEL, READING, TOP_K, parse_query, reading_of
from .service import NAME, Service, Stages
from .uploads import received_video

OPTIONS = (MODEL, TOP_K, *CLIPS_AND_CROPS, *READING)


async def classify(request: Request) -> Response:
    """Answer with what happens in the video that is the body."""
    service: Service = request.state.service
    given = parse_query(request.query_params, OPTIONS)
    served = service.model(given.get("model"))
    reading = reading_of(given, service.limits)
    stages = Stages()
    async with received_video(request) as upload:
        stages.ended("receive")
        crops, logits = await service.look(served, upload, reading, stages)
    model = served.model
    said = answer(logits, model.spec.evaluation.averages, model.problem_type, model.labels, given.get("top_k", 5))
    stages.ended("rank")
    service.metrics.stages(served.name, stages.seconds)
    # The middle one: of three crops it is the centre.
    document = Classification(NAME, NAME, tuple(said), crops[len(crops) // 2], None).to_json(reading)
    del document["video"]  # it has no name here
    return JSONResponse({"model": served.name} | document | {"stages_ms": stages.to_json()})


async def models(request: Request) -> Response:
    """Answer with the models that there are, and what a page needs to know of them."""
    service: Service = request.state.service
    found = []
    for served in service.models.values():
        model, spec = served.model, served.model.spec
        found.append(
            {
                "name": served.name,
                "model_id": model.bundle.model_id,
                "architecture": model.bundle.architecture,
                "problem_type": model.problem_type,
                "attention": bool(model.attentions),
                "labels": list(model.labels),
                "num_frames": spec.num_frames,
                "size": None if spec.size is None else list(spec.size),
            }
        )
    limits = service.limits
    return JSONResponse({"models": found, "max_mb": limits.max_mb, "max_seconds": limits.max_seconds})
