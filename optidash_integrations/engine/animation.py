"""Animations: GIF, WebP and APNG in, GIF and WebP out.

An animation is worked on one frame after the other, so that only one frame of the source is in
memory, beside the frames of the result. libvips keeps the latter in one picture, a strip with all
frames below each other, that says how high a frame is (`page-height`), how long each is seen
(`delay`) and how often all play (`loop`, 0 is for ever).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from optidash_integrations import formats
from optidash_integrations.engine import vips
from optidash_integrations.engine.apng import Apng
from optidash_integrations.engine.probe import integer
from optidash_integrations.errors import AnimatedImageError, ImageTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyvips

    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.probes import Probe

OUTPUTS = formats.MOVING
"""What an animation can become, better first."""

FAIL_ON = "truncated"

# A transparent frame of one pixel. libvips paints black what the frames of a GIF leave uncovered,
# unless one of them has a transparent colour: this one is put behind the others, and not taken.
GIF_END = b";"
CLEAR_PIXEL = (
    b"!\xf9\4\1\0\0\0\0"  # its control: transparent in colour 0
    b",\0\0\0\0\1\0\1\0\x80\0\0\0\0\0\0"  # its place, and two colours of its own
    b"\2\2\x44\1\0"  # its pixel
)

# Browsers show what is to be seen for 10 ms or less for 100 ms; GIF counts in hundredths.
SHORTEST, HUNDREDTH = 20, 10


@dataclass(frozen=True, slots=True)
class Animation:
    """The frames of a picture: upright, in memory each, in the colours and with the profile it has.

    They can be walked through once, and raise as `probe` does where the file is damaged. `delays`
    are in milliseconds, one a frame; `loop` is how often all are shown, 0 for ever.
    """

    frames: Iterator[pyvips.Image]
    delays: tuple[int, ...]
    loop: int


def opened(data: bytes, probe: Probe) -> Animation:
    """Return the animation in a file that a probe has accepted, its limits kept.

    A single frame may come back: an APNG of one frame has a still picture beside it. Raises
    AnimatedImageError for formats whose frames are not read, BrokenImageError for damage.
    """
    if probe.format is formats.PNG:
        apng = Apng.of(data)
        delays = tuple(frame.control.milliseconds for frame in apng.frames)
        return Animation(upright(with_profile(apng, data), probe), delays, apng.plays)
    if probe.format not in (formats.GIF, formats.WEBP):
        raise AnimatedImageError(f"frames of {probe.format.label} are not read")
    strip = strip_of(data, probe.format)
    count = strip.height // strip.get_page_height()
    if not strip.hasalpha() and data.endswith(GIF_END) and probe.format is formats.GIF:
        strip = strip_of(data[: -len(GIF_END)] + CLEAR_PIXEL + GIF_END, formats.GIF)
    told: Any = strip.get("delay") if strip.get_typeof("delay") else ()
    delays = (*told[:count], *[0] * (count - len(told)))
    frames = upright(cut(strip, count, probe.format), probe)
    return Animation(frames, delays, integer(strip, "loop", 0))


def with_profile(apng: Apng, data: bytes) -> Iterator[pyvips.Image]:
    """Yield an APNG's frames with the profile of its file."""
    name = "icc-profile-data"
    with vips.reading("PNG"):
        still = vips.pyvips.Image.pngload_buffer(data, access="sequential")
    for frame in apng.composed():
        if still.get_typeof(name):
            frame = frame.copy()
            frame.set_type(vips.pyvips.GValue.blob_type, name, still.get(name))
        yield frame


def strip_of(data: bytes, found: Format) -> pyvips.Image:
    """Return all frames below each other, to be read from the top down."""
    with vips.reading(found.label):
        return vips.pyvips.Image.new_from_buffer(
            data, "", n=-1, access="sequential", fail_on=FAIL_ON
        )


def cut(strip: pyvips.Image, count: int, found: Format) -> Iterator[pyvips.Image]:
    """Yield the first frames of a strip, which is read as they are taken."""
    height = strip.get_page_height()
    for number in range(count):
        with vips.reading(found.label):
            frame = strip.crop(0, number * height, strip.width, height).copy_memory()
        yield as_still(frame)


def as_still(frame: pyvips.Image) -> pyvips.Image:
    """Return a frame that no longer says that it is part of a strip."""
    frame = frame.copy()
    for name in ("page-height", "n-pages", "delay", "loop", "gif-delay", "gif-loop"):
        if frame.get_typeof(name):
            frame.remove(name)
    return frame


def upright(frames: Iterator[pyvips.Image], probe: Probe) -> Iterator[pyvips.Image]:
    """Yield the frames as the file's orientation wants them seen."""
    if probe.orientation == 1:
        yield from frames
        return
    for frame in frames:
        turned = frame.copy()
        turned.set_type(vips.pyvips.GValue.gint_type, "orientation", probe.orientation)
        yield turned.autorot().copy_memory()


def each_frame(
    animation: Animation, work: Callable[[pyvips.Image], pyvips.Image], target: Format
) -> pyvips.Image:
    """Return the strip of what `work` makes of each frame, ready to be encoded as `target`.

    Every result has to have the same size.
    """
    made = [work(frame).copy_memory() for frame in animation.frames]
    return joined(made, timed_for(animation, target))


def whole_strip(data: bytes, probe: Probe) -> pyvips.Image:
    """Return all frames of a file in one strip, in memory; raises as `opened` does."""
    found = opened(data, probe)
    return joined(list(found.frames), found)


def joined(frames: list[pyvips.Image], animation: Animation) -> pyvips.Image:
    """Return the strip of frames in memory, with the timing of an animation.

    Where some have colours or alpha and others not, all get them.
    """
    grey = all(frame.bands <= 2 for frame in frames)
    alpha = any(frame.hasalpha() for frame in frames)
    alike = [with_bands(frame, grey, alpha) for frame in frames]
    strip = vips.pyvips.Image.arrayjoin(alike, across=1).copy()
    kinds = vips.pyvips.GValue
    strip.set_type(kinds.gint_type, "page-height", frames[0].height)
    strip.set_type(kinds.gint_type, "loop", animation.loop)
    strip.set_type(kinds.array_int_type, "delay", list(animation.delays))
    return strip


def with_bands(frame: pyvips.Image, grey: bool, alpha: bool) -> pyvips.Image:
    if frame.bands <= 2 and not grey:
        frame = frame.colourspace("srgb")
    return frame.addalpha() if alpha and not frame.hasalpha() else frame


def timed_for(animation: Animation, target: Format) -> Animation:
    """Return the animation with delays that a format can tell.

    A GIF's are rounded so that no frame begins more than a hundredth of a second early or late,
    unless it would be so short that browsers slow it down.
    """
    if target is not formats.GIF:
        return animation
    delays: list[int] = []
    behind = 0
    for delay in animation.delays:
        wanted = delay + behind
        whole = (wanted + HUNDREDTH // 2) // HUNDREDTH * HUNDREDTH
        told = max(whole, SHORTEST if delay > HUNDREDTH else 0)
        delays.append(told)
        behind = wanted - told
    return replace(animation, delays=tuple(delays))


def check_result(width: int, height: int, frames: int, limits: Limits) -> None:
    """Raise ImageTooLargeError where so many frames of this size are more pixels than allowed."""
    if width * height * frames > limits.max_pixels:
        raise ImageTooLargeError(
            f"{frames} frames of {width} x {height} pixels are more than max_pixels allows"
        )


def first_frame(data: bytes, probe: Probe) -> pyvips.Image:
    """Return the first frame, for who asks for a still picture; raises as `opened` does."""
    return next(islice(opened(data, probe).frames, 1))
