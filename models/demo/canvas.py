"""A small raster: signed distances in, soft-edged colour out. Lengths are fractions of the picture's side, y points down."""
import numpy as np
from PIL import Image


def noise(rng, side, cells, octaves=1):
    """Smooth noise in about [-1, 1] with `cells` (across, down) cells; each octave halves size and weight."""
    total, weight = np.zeros((side, side), np.float32), 1.0
    across, down = cells if isinstance(cells, tuple) else (cells, cells)
    for octave in range(octaves):
        grid = rng.uniform(-1, 1, (max(2, int(down * 2 ** octave)), max(2, int(across * 2 ** octave)))).astype(np.float32)
        total += weight * np.asarray(Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC))
        weight *= 0.5
    return total


def blur(picture, radius):
    """A box blur of `radius` pixels, twice, along both axes of an (h, w) or (h, w, 3) array."""
    out, radius = picture, max(1, int(round(radius)))
    for axis in (0, 1, 0, 1):
        pad = [(0, 0)] * out.ndim
        pad[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(out, pad, mode="edge"), axis=axis, dtype=np.float32)
        size = out.shape[axis]
        width = 2 * radius + 1
        out = (np.take(total, range(width, width + size), axis) - np.take(total, range(size), axis)) / width
    return out


class Canvas:
    """A picture being painted. `wobble` bends all lines, as a hand does."""

    def __init__(self, side, wobble=0.0, rng=None):
        self.side = side
        line = (np.arange(side, dtype=np.float32) + 0.5) / side
        self.x, self.y = np.meshgrid(line, line)
        if wobble:
            self.x = self.x + wobble * noise(rng, side, 5, 2)
            self.y = self.y + wobble * noise(rng, side, 5, 2)
        self.image = np.zeros((side, side, 3), np.float32)

    def box(self, x0, y0, x1, y1, margin=0.03):
        """The pixels around a rectangle, as slices; None where it lies outside."""
        low = [int((v - margin) * self.side) for v in (y0, x0)]
        high = [int((v + margin) * self.side) + 1 for v in (y1, x1)]
        rows, columns = (slice(max(0, a), min(self.side, b)) for a, b in zip(low, high))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def over(self, where, alpha, colour):
        """Lays `colour` (one colour or one a pixel) over the pixels `where`."""
        part = self.image[where]
        part += alpha[..., None] * (np.asarray(colour, np.float32) - part)

    def cover(self, distance, soft=0.0):
        """How much of each pixel lies inside, for a signed distance."""
        return np.clip(0.5 - distance * (1.0 / (1.0 / self.side + soft)), 0, 1)

    def shape(self, bounds, distance, colour, opacity=1.0, soft=0.0):
        """Fills where `distance(x, y)` is negative; `colour` may be a function of x and y."""
        where = self.box(*bounds)
        if where is None:
            return
        x, y = self.x[where], self.y[where]
        value = colour(x, y) if callable(colour) else colour
        self.over(where, opacity * self.cover(distance(x, y), soft), value)

    def polygon(self, points, colour, opacity=1.0):
        """Fills a convex polygon given clockwise (y down)."""
        points = np.asarray(points, np.float32)

        def distance(x, y):
            far = np.full(x.shape, -9.0, np.float32)
            for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0)):
                length = max(1e-6, float(np.hypot(bx - ax, by - ay)))
                far = np.maximum(far, ((by - ay) * (x - ax) - (bx - ax) * (y - ay)) / length)
            return far
        self.shape((*points.min(0), *points.max(0)), distance, colour, opacity)

    def disc(self, x, y, r, colour, opacity=1.0, soft=0.0, squash=1.0):
        """Fills an ellipse `squash` times as high as wide."""
        def distance(px, py):
            return np.hypot(px - x, (py - y) / squash) - r
        self.shape((x - r - soft, y - r * squash - soft, x + r + soft, y + r * squash + soft), distance, colour, opacity, soft)

    def line(self, points, width, colour, opacity=1.0):
        """Draws a polyline."""
        points = np.asarray(points, np.float32)

        def distance(x, y):
            near = np.full(x.shape, 9.0, np.float32)
            for (ax, ay), (bx, by) in zip(points, points[1:]):
                dx, dy = bx - ax, by - ay
                t = np.clip(((x - ax) * dx + (y - ay) * dy) / max(1e-9, dx * dx + dy * dy), 0, 1)
                near = np.minimum(near, np.hypot(x - ax - t * dx, y - ay - t * dy))
            return near - width / 2
        self.shape((*points.min(0), *points.max(0)), distance, colour, opacity)
