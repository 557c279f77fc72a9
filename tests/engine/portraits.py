"""A face that face detectors see, drawn here: no picture of a person is needed."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFilter

WALL = (120, 140, 160)
HAIR, SKIN, SHADE, DARK, LIP = (
    (60, 40, 30),
    (225, 180, 150),
    (205, 155, 125),
    (80, 50, 40),
    (150, 60, 60),
)
WHITE, PUPIL, SOCKET, NOSTRIL = (240, 240, 240), (40, 25, 20), (110, 70, 60), (120, 70, 60)

# Ellipses: middle, half the sides (in hundredths of the face's width), colour.
PARTS = (
    (50, 60, 42, 56, HAIR),
    (50, 66, 36, 48, SKIN),
    *((x, 52, 9, 5, SOCKET) for x in (34, 66)),
    *((x, 55, 7, 3.5, WHITE) for x in (34, 66)),
    *((x, 55, 3.2, 3.4, PUPIL) for x in (34, 66)),
    *((x, 43.5, 10, 2, DARK) for x in (34, 66)),
    (50, 72, 7, 9, SHADE),
    *((x, 79, 2.5, 2, NOSTRIL) for x in (46, 54)),
    (50, 93, 13, 4.5, LIP),
)


def face(side: int) -> Image.Image:
    """Return a face, `side` pixels wide and 1.3 times as high, before a wall."""
    scale = side / 100
    image = Image.new("RGB", (side, round(side * 1.3)), WALL)
    draw = ImageDraw.Draw(image)
    for x, y, wide, high, colour in PARTS:
        box = (x - wide, y - high, x + wide, y + high)
        draw.ellipse([each * scale for each in box], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(1.5 * scale))


def wall(width: int, height: int, *faces: tuple[int, int, int]) -> Image.Image:
    """Return a wall with faces before it: left, top and side of each."""
    image = Image.new("RGB", (width, height), WALL)
    for left, top, side in faces:
        image.paste(face(side), (left, top))
    return image
