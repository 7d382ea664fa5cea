"""Paints the scenes of the sample world: shaded, textured objects among clutter and distractors, back to front.

Everything is computed in float64 from one `numpy` generator, so that the same seed gives the same pixels everywhere.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from .shapes import CLUTTER, DISTRACTORS, SHAPES

# Two ground colours and a clutter colour per place, RGB in 0..1.
PLACES = np.array(
    [
        [(0.30, 0.42, 0.18), (0.50, 0.58, 0.28), (0.22, 0.30, 0.12)],  # meadow
        [(0.76, 0.66, 0.46), (0.88, 0.80, 0.62), (0.58, 0.48, 0.34)],  # sand
        [(0.46, 0.31, 0.19), (0.62, 0.45, 0.29), (0.32, 0.21, 0.13)],  # wood
        [(0.44, 0.45, 0.47), (0.62, 0.62, 0.63), (0.30, 0.31, 0.34)],  # stone
        [(0.20, 0.36, 0.48), (0.38, 0.56, 0.66), (0.14, 0.24, 0.36)],  # water
        [(0.80, 0.83, 0.88), (0.93, 0.94, 0.96), (0.62, 0.67, 0.74)],  # snow
        [(0.48, 0.26, 0.22), (0.66, 0.42, 0.34), (0.34, 0.17, 0.16)],  # clay
        [(0.26, 0.22, 0.34), (0.44, 0.38, 0.52), (0.17, 0.14, 0.24)],  # dusk
    ]
)


def _noise(rng: np.random.Generator, size: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise [H, W] with features of about `cell` pixels and unit variance on its grid."""
    coarse = rng.standard_normal([int(np.ceil(s / cell)) + 2 for s in size]).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float64)


class Canvas:
    """A picture while it is being painted, back to front; a pixel's `owner` is 0, or k for the k-th object."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]):
        self.rng, self.size, self.scale = rng, size, min(size) / 240
        self.place = PLACES[rng.integers(len(PLACES))] * rng.uniform(0.75, 1.15) + rng.uniform(-0.05, 0.05, 3)
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.9)
        flat = np.sqrt(1 - height**2)
        self.light = np.array([flat * np.cos(angle), flat * np.sin(angle), height])
        self.owner = np.zeros(size, dtype=np.int64)
        self.labels: list[int] = []
        self.painted: list[int] = []  # pixels of each object when it was painted, before anything covered it
        self.pixels = self._ground()

    def _ground(self) -> np.ndarray:
        """Two colours mixed by noise of several scales, with a slow change of brightness over the picture."""
        mix = sum(w * _noise(self.rng, self.size, c) for c, w in ((90, 0.5), (28, 0.4), (9, 0.3), (3, 0.25)))
        mix = 1 / (1 + np.exp(-2.0 * mix))
        ground = self.place[0] + (self.place[1] - self.place[0]) * mix[..., None]
        rows, cols = np.mgrid[0 : self.size[0], 0 : self.size[1]]
        slope = (self.light[0] * (cols / self.size[1] - 0.5) + self.light[1] * (rows / self.size[0] - 0.5))[..., None]
        return ground * (1 + 0.35 * slope) * (1 + 0.10 * _noise(self.rng, self.size, 60)[..., None])

    def _window(self, centre: np.ndarray, reach: float) -> tuple[slice, slice]:
        """The part of the picture within `reach` pixels of `centre` (x, y)."""
        (h, w), (x, y) = self.size, centre
        return (
            slice(max(0, int(y - reach)), min(h, int(y + reach) + 1)),
            slice(max(0, int(x - reach)), min(w, int(x + reach) + 1)),
        )

    def _place(self, shape, radius: float, squash: float, turn: float, centre: np.ndarray):
        """Evaluate a shape at `centre`: window, coverage, normals in picture axes, tone, and local coordinates."""
        win = self._window(centre, 1.45 * radius)
        y, x = np.mgrid[win]
        x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
        cos, sin = np.cos(turn), np.sin(turn)
        u, v = cos * x + sin * y, (-sin * x + cos * y) / squash
        distance, (nu, nv, nz), tone = shape(u, v)
        normal = np.broadcast_arrays(cos * nu - sin * nv, sin * nu + cos * nv, nz, distance)[:3]
        alpha = np.clip(0.5 - distance * radius * min(1.0, squash), 0, 1)
        return win, alpha, np.stack(normal, -1), np.broadcast_to(tone, u.shape), (u, v)

    def _paint(self, placed, colours: np.ndarray, gloss: float, shadow: float) -> None:
        """Shade a placed shape by the scene's light and blend it over the picture."""
        win, alpha, normal, tone, (u, v) = placed
        if not alpha.size:
            return
        albedo = self._texture(colours, tone, u, v)
        lit = np.clip(normal @ self.light, 0, 1)[..., None]
        half = self.light + np.array([0, 0, 1])
        shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[..., None] ** 24
        colour = albedo * (0.38 + 0.75 * lit) + gloss * shine
        self._cast_shadow(win, alpha, shadow)
        self.pixels[win] += alpha[..., None] * (colour - self.pixels[win])

    def _cast_shadow(self, win: tuple[slice, slice], alpha: np.ndarray, strength: float) -> None:
        """Darken the ground behind a shape, away from the light, softly."""
        shift = np.rint(-self.light[:2] * 0.16 * max(alpha.shape)).astype(int)
        moved = ndimage.shift(alpha, shift[::-1], order=0)
        soft = Image.fromarray((255 * moved).astype(np.uint8))
        small = soft.resize([max(2, s // 6) for s in soft.size], Image.Resampling.BOX)
        soft = np.asarray(small.resize(soft.size, Image.Resampling.BICUBIC), dtype=np.float64) / 255
        self.pixels[win] *= 1 - strength * soft[..., None]

    def _texture(self, colours: np.ndarray, tone: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Albedo [h, w, 3]: a pattern of two colours on the first tone, the second colour on the second, then dark."""
        rng = self.rng
        turn, period = rng.uniform(0, np.pi), rng.uniform(0.3, 0.8)
        a, b = np.cos(turn) * u + np.sin(turn) * v, -np.sin(turn) * u + np.cos(turn) * v
        kind = rng.choice(["plain", "stripes", "checks", "dots", "grain"], p=[0.3, 0.2, 0.15, 0.15, 0.2])
        wave = 2 * np.pi / period
        pattern = {
            "plain": lambda: np.zeros_like(u),
            "stripes": lambda: 0.5 + 0.5 * np.tanh(4 * np.sin(wave * a)),
            "checks": lambda: 0.5 + 0.5 * np.tanh(8 * np.sin(wave * a) * np.sin(wave * b)),
            "dots": lambda: 0.5 + 0.5 * np.tanh(6 * (np.cos(wave * a) + np.cos(wave * b) - 0.9)),
            "grain": lambda: 0.5 + 0.25 * _noise(rng, u.shape, 4),
        }[kind]()
        mix = np.where(tone == 0, rng.uniform(0.3, 0.9) * pattern, np.where(tone == 1, 1.0, 0.0))[..., None]
        albedo = colours[0] + (colours[1] - colours[0]) * mix
        return np.where((tone == 2)[..., None], 0.06, albedo)

    def _colours(self, like_place: float) -> np.ndarray:
        """Two colours [2, 3]; with probability `like_place` close to the ground's, so that they don't stand out."""
        rng = self.rng
        if rng.uniform() < like_place:
            like = self.place[rng.integers(3, size=2)] * rng.uniform(0.7, 1.2, (2, 1))
            return like + rng.uniform(-0.08, 0.08, (2, 3))
        hue, value = rng.uniform(0, 1), rng.uniform(0.35, 0.95, (2, 1))
        hues = np.array([hue, hue + rng.uniform(0.1, 0.5)])[:, None]
        wheel = 0.5 + 0.5 * np.cos(2 * np.pi * (hues + np.array([0, 1 / 3, 2 / 3])))
        return value * (1 - rng.uniform(0.3, 0.95) * (1 - wheel))

    def scatter_clutter(self, count: int) -> None:
        """Strew small unlabelled things, coloured like the place."""
        for _ in range(count):
            shape = CLUTTER[self.rng.integers(len(CLUTTER))](self.rng)
            radius = self.scale * np.exp(self.rng.uniform(np.log(3), np.log(13)))
            centre = self.rng.uniform((0, 0), self.size[::-1])
            placed = self._place(shape, radius, 1.0, self.rng.uniform(0, 2 * np.pi), centre)
            self._paint(placed, self._colours(0.8), gloss=0.0, shadow=0.25)

    def add_distractor(self) -> None:
        """Paint a larger thing of no class, unless it would hide too much of an object."""
        shape = DISTRACTORS[self.rng.choice(len(DISTRACTORS))](self.rng)
        self._try_to_add(shape, None, radius=(14, 60), like_place=0.45, turn=2 * np.pi)

    def add_object(self) -> None:
        """Paint an object of a random class, unless there is no room for it."""
        label = int(self.rng.integers(len(SHAPES)))
        shape, lean = list(SHAPES.values())[label](self.rng)
        self._try_to_add(shape, label, radius=(14, 92), like_place=0.2, turn=lean)

    def _try_to_add(self, shape, label: int | None, radius: tuple, like_place: float, turn: float) -> None:
        rng = self.rng
        for _ in range(8):
            r = self.scale * np.exp(rng.uniform(*np.log(radius)))
            margin = min(0.5 * r, min(self.size) / 4)
            centre = rng.uniform((margin, margin), np.array(self.size[::-1]) - margin)
            placed = self._place(shape, r, rng.uniform(0.8, 1.2), rng.uniform(-turn, turn), centre)
            win, alpha = placed[:2]
            covered = alpha > 0.5
            left = np.bincount(self.owner.ravel(), minlength=len(self.labels) + 1)
            left -= np.bincount(self.owner[win][covered], minlength=len(left))
            if covered.sum() >= 60 and all(n >= 0.45 * whole for n, whole in zip(left[1:], self.painted)):
                break
        else:
            return
        self._paint(placed, self._colours(like_place), gloss=rng.choice([0.0, 0.15, 0.4]), shadow=0.45)
        if label is not None:
            self.labels.append(label)
            self.painted.append(int(covered.sum()))
        self.owner[win][covered] = len(self.labels) if label is not None else 0

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Exposure, vignette and sensor noise; then the picture, what is visible of each object, and the labels."""
        rng, (h, w) = self.rng, self.size
        rows, cols = np.mgrid[0:h, 0:w]
        corner = ((rows / h - 0.5) ** 2 + (cols / w - 0.5) ** 2)[..., None]
        pixels = np.clip(self.pixels * (1 - rng.uniform(0, 0.5) * corner), 0, 1) ** rng.uniform(0.8, 1.25)
        pixels = 255 * pixels + rng.uniform(0.5, 2.5) * rng.standard_normal(pixels.shape)
        masks = self.owner[None] == np.arange(1, len(self.labels) + 1)[:, None, None]
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), masks, np.array(self.labels, dtype=np.int64)
