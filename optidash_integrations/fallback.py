"""The picture that the endpoint sends where there is none: the `fallback_image` setting."""

from __future__ import annotations

from dataclasses import replace

from optidash_integrations.errors import OptidashError
from optidash_integrations.exchange import Answer, Headers
from optidash_integrations.headers import capped, printable
from optidash_integrations.operations import Operations

HEADER = "x-optidash-fallback"
DETAIL = '; detail="'


def in_box(asked: Operations) -> Operations:
    """Return the operations that give a stand-in the asked size, whatever its shape."""
    document: dict[str, dict[str, object]] = {}
    output = asked.to_dict().get("output")
    if output:
        document["output"] = dict(output)
    resize = asked.resize
    if resize is not None:
        sides = {"width": resize.width, "height": resize.height}
        box: dict[str, object] = {name: side for name, side in sides.items() if side is not None}
        if len(box) == len(sides):
            box["mode"] = "fit"
        elif box:
            box["upscale"] = True
        if box:
            document["resize"] = box
    return Operations.from_dict(document)


def marked(answer: Answer, problem: OptidashError, status: int) -> Answer:
    """Return a stand-in's answer: it says what it is, and is not kept for long."""
    headers: Headers = []
    for name, value in answer.headers:
        if name == "cache-control":
            value = capped(value)
        elif name == "cache-status":
            said = printable(f"fallback image: {problem.public}")
            value = f'{value.partition(DETAIL)[0]}{DETAIL}{said}"'
        headers.append((name, value))
    headers.append((HEADER, str(problem.public_status)))
    return replace(
        answer, status=status if answer.status == 200 else answer.status, headers=headers
    )
