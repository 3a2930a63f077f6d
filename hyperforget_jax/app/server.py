"""The page's server: one page, and the answers to what it asks.

Starlette and a plain page, and not Gradio: axe finds serious faults in its components,
it can be used after four seconds only, and it installs 300 MB.
"""

import functools
import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

import jinja2
import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hyperforget_jax.app import asking
from hyperforget_jax.app.forgetting import METHODS, Forgetting

__all__ = ["make"]

_FOLDER = importlib.resources.files("hyperforget_jax.app")
_IMAGES = 8  # Test images of each class that can be chosen.
# The page asks its own server alone, and draws its own pictures.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# How a drawing becomes an image as those of the data: the height of a digit in it, in
# pixels, and the radius of the brush, as a share of the drawing.
_DRAWN = {"digits": (8, 0.075), "mnist": (20, 0.05)}


def make(forgetting: Forgetting, hosts: Sequence[str]) -> Starlette:
    """Make the application.

    Args:
        forgetting: what answers.
        hosts: names by which the server may be called; others are refused, so that no
            page of another site reaches it by a name of its own.
    """
    page = _page(forgetting)
    routes = [
        Route("/", _fixed(page, "text/html")),
        Route("/page.css", _fixed(_read("page.css"), "text/css")),
        Route("/page.js", _fixed(_read("page.js"), "text/javascript")),
        Route("/drawing.js", _fixed(_read("drawing.js"), "text/javascript")),
        Route("/answer", functools.partial(_answer, forgetting), methods=["POST"]),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return Starlette(routes=routes, middleware=[trusted])


async def _answer(forgetting: Forgetting, request: Request) -> Response:
    if request.headers.get("content-type") != "application/json":
        return _refused(415, "a question is application/json.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > asking.MOST_BYTES:
            return _refused(
                413, f"a question may have {asking.MOST_BYTES} bytes, this has more."
            )
    try:
        ask = asking.read(
            bytes(body),
            num_classes=forgetting.num_classes,
            num_rows=forgetting.splits.test.y.shape[0],
            num_pixels=int(np.prod(forgetting.made.hypernetwork.input_shape)),
            largest=forgetting.largest_pixel,
        )
    except (ValueError, RecursionError) as error:
        return _refused(422, str(error))
    found = await run_in_threadpool(forgetting.answer, ask)
    # What is not finite becomes null.
    return Response(
        msgspec.json.encode(found), media_type="application/json", headers=_HEADERS
    )


def _refused(status: int, why: str) -> Response:
    body = json.dumps({"error": why})
    return Response(body, status, headers=_HEADERS, media_type="application/json")


def _fixed(text: str, kind: str):
    async def respond(request: Request) -> Response:
        del request
        return Response(text, headers=_HEADERS, media_type=kind)

    return respond


def _read(name: str) -> str:
    return _FOLDER.joinpath(name).read_text(encoding="utf-8")


def _page(forgetting: Forgetting) -> str:
    made, test = forgetting.made, np.asarray(forgetting.splits.test.y)
    rows = [
        np.flatnonzero(test == label)[:_IMAGES]
        for label in range(forgetting.num_classes)
    ]
    height, brush = _DRAWN.get(made.dataset, _DRAWN["mnist"])
    settings: dict[str, Any] = {
        "side": made.hypernetwork.input_shape[0],
        "largest": forgetting.largest_pixel,
        "height": height,
        "brush": brush,
        "rows": [each.tolist() for each in rows],
        "pixels": [forgetting.pixels(each).tolist() for each in rows],
        "methods": METHODS,
    }
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_read("page.html.j2")).render(
        settings=settings,
        dataset=made.dataset,
        num_classes=forgetting.num_classes,
        seeds=forgetting.seeds,
        methods=METHODS,
        largest_loss=forgetting.largest_loss,
        sampled=forgetting.sampled,
    )
