"""The shapes of the sample world.

Each maker draws its proportions from a generator and returns a shape: a function of local coordinates (u to the right,
v down, the shape within about the unit circle) that returns, as arrays or numbers,
  - the signed distance to its outline (negative inside),
  - the surface normal (nu, nv, nz), nz towards the viewer,
  - the tone: 0 where a pattern may lie, 1 the second colour, 2 dark.
Object makers also return how far the shape may lean, in radians.
"""

import numpy as np

TWO_PI = 2 * np.pi


def _dome(x: np.ndarray) -> np.ndarray:
    """sqrt(1 - x) where that is real, 0 elsewhere: the height of a round surface."""
    return np.sqrt(np.clip(1 - x, 0, None))


def _choose(first: np.ndarray, a, b):
    """Normals `a` where `first`, else `b`."""
    return tuple(np.where(first, p, q) for p, q in zip(a, b))


def _ellipse(u, v, a: float, b: float):
    """Distance to an ellipse (approximate) and the normals of the ellipsoid on it."""
    p, q = u / a, v / b
    square = p**2 + q**2
    return (np.sqrt(square) - 1) * min(a, b), (p, q, _dome(square))


def ball(rng):
    def shape(u, v):
        distance, normal = _ellipse(u, v, 0.95, 0.95)
        return distance, normal, 0

    return shape, TWO_PI


def cube(rng):
    corner = rng.uniform(0.45, 0.7)  # how steeply we look down on it

    def shape(u, v):
        sides = [np.abs(v * c + u * s) for c, s in ((0.0, 1.0), (0.866, 0.5), (0.866, -0.5))]
        top = v < -corner * np.abs(u)
        sideways = (0.75 * np.where(u < 0, -1, 1), 0.25, 0.61)
        return np.maximum.reduce(sides) - 0.82, _choose(top, (0.0, -0.85, 0.53), sideways), np.where(top, 1, 0)

    return shape, 0.3


def cone(rng):
    width = rng.uniform(0.55, 0.8)

    def shape(u, v):
        half = np.clip((v + 0.95) / 1.65, 1e-6, None) * width
        floor = 0.62 + 0.2 * _dome((u / width) ** 2)
        across = np.clip(u / half, -1, 1)
        distance = np.maximum.reduce([(np.abs(u) - half) * 0.9, v - floor, -0.93 - v])
        return distance, (0.9 * across, -0.35, _dome(0.81 * across**2)), 0

    return shape, 0.35


def can(rng):
    width = rng.uniform(0.5, 0.7)

    def shape(u, v):
        across = np.clip(u / width, -1, 1)
        lid = (np.hypot(u / width, (v + 0.7) / 0.22) - 1) * 0.22
        body = np.maximum.reduce([np.abs(u) - width, v - 0.62 - 0.22 * _dome(across**2), -0.7 - v])
        normal = _choose(lid < 0, (0.0, -0.8, 0.6), (across, 0.0, _dome(across**2)))
        return np.minimum(lid, body), normal, np.where(lid < 0, 1, 0)

    return shape, 0.35


def ring(rng):
    tube = rng.uniform(0.2, 0.3)

    def shape(u, v):
        radius = np.hypot(u, v) + 1e-9
        across = (radius - 0.95 + tube) / tube
        inside = np.clip(across, -1, 1)
        return (np.abs(across) - 1) * tube, (inside * u / radius, inside * v / radius, _dome(inside**2)), 0

    return shape, TWO_PI


def star(rng):
    inner = rng.uniform(0.42, 0.55)
    sector = np.pi / 5
    tip, notch = np.array([1.0, 0.0]), inner * np.array([np.cos(sector), np.sin(sector)])
    edge = notch - tip
    out = np.array([edge[1], -edge[0]]) / np.hypot(*edge)  # the outward normal of the folded edge

    def shape(u, v):
        radius, angle = np.hypot(u, v), np.arctan2(v, u)
        spoke = np.round(angle / (2 * sector)) * 2 * sector
        folded = angle - spoke
        p, q = radius * np.cos(folded), radius * np.abs(np.sin(folded))
        tilt_p, tilt_q = 0.6 * out[0], 0.6 * out[1] * np.where(folded < 0, -1.0, 1.0)
        across, down = np.cos(spoke) * tilt_p - np.sin(spoke) * tilt_q, np.sin(spoke) * tilt_p + np.cos(spoke) * tilt_q
        return (p - tip[0]) * out[0] + (q - tip[1]) * out[1], (across, down, 0.8), 0

    return shape, TWO_PI


def mushroom(rng):
    stem, brim = rng.uniform(0.2, 0.32), rng.uniform(0.05, 0.2)

    def shape(u, v):
        round_cap, cap_normal = _ellipse(u, v - brim, 0.95, 0.95 + brim)
        cap = np.maximum(round_cap, v - brim - 0.12 * _dome((u / 0.95) ** 2))
        girth = stem * (1 + 0.35 * v)
        across = np.clip(u / girth, -1, 1)
        foot = np.maximum.reduce([np.abs(u) - girth, v - 0.85 - 0.1 * _dome(across**2), -v])
        normal = _choose(cap < 0, cap_normal, (across, 0.0, _dome(across**2)))
        return np.minimum(cap, foot), normal, np.where(cap < 0, 0, 1)

    return shape, 0.35


def fish(rng):
    depth, side = rng.uniform(0.38, 0.5), rng.choice([-1.0, 1.0])

    def shape(u, v):
        u = side * u
        body, (bu, bv, bz) = _ellipse(u + 0.2, v, 0.75, depth)
        tail = np.maximum.reduce([u - 0.95 + 0.25 * (1 - np.abs(v) / 0.5), (np.abs(v) - 0.85 * (u - 0.36)) * 0.75])
        nu, nv, nz = _choose(body < 0, (bu, bv, bz), (0.0, 0.3 * np.sign(v), 0.95))
        eye = np.hypot(u + 0.62, v + 0.1) < 0.09
        return np.minimum(body, tail), (side * nu, nv, nz), np.where(eye, 2, np.where(body < 0, 0, 1))

    return shape, 0.6


def _blob(rng, lumps: float):
    """An irregular outline: a circle whose radius waves with the angle."""
    turns = np.arange(2, 7)
    weight, phase = lumps * rng.standard_normal(5) / turns, rng.uniform(0, TWO_PI, 5)

    def outline(u, v):
        angle, radius = np.arctan2(v, u), np.hypot(u, v)
        edge = 0.75 + (weight[:, None, None] * np.cos(turns[:, None, None] * angle + phase[:, None, None])).sum(0)
        return radius, np.clip(edge, 0.3, 1.2)

    return outline


def rock(rng):
    outline, bumps = _blob(rng, 0.25), rng.uniform(0.3, 0.6)

    def shape(u, v):
        radius, edge = outline(u, v)
        rough = bumps * np.sin(7 * u + 3 * np.sin(5 * v)) * np.sin(6 * v)
        height = _dome((radius / edge) ** 2)
        return radius - edge, (0.8 * u / edge + 0.3 * rough, 0.8 * v / edge - 0.3 * rough, height), 0

    return shape


def stain(rng):
    outline = _blob(rng, 0.45)

    def shape(u, v):
        radius, edge = outline(u, v)
        return radius - edge, (0.0, 0.0, 1.0), 0

    return shape


def plank(rng):
    thick = rng.uniform(0.1, 0.3)

    def shape(u, v):
        across = np.clip(v / thick, -1, 1)
        distance = np.maximum(np.abs(u) - 1.15, np.abs(v) - thick)
        return distance, (0.0, 0.6 * across, _dome(0.36 * across**2)), np.where(np.abs(u) > 1.05, 1, 0)

    return shape


def leaf(rng):
    width = rng.uniform(0.25, 0.5)

    def shape(u, v):
        half = width * (1 - np.clip(np.abs(u), 0, 1) ** 1.6)
        rib = np.where(np.abs(v) < 0.05, 1, 0)
        return np.maximum(np.abs(v) - half, np.abs(u) - 1), (0.0, np.sign(v) * 0.35, 0.93), rib

    return shape


def boomerang(rng):
    """A bent stick: close to a ring's or a star's texture, and neither."""
    bend, thick = rng.uniform(0.5, 1.1), rng.uniform(0.12, 0.22)

    def shape(u, v):
        along = np.abs(u)
        offset = v + 0.4 - bend * along
        across = np.clip(offset / thick, -1, 1)
        distance = np.maximum(np.abs(offset) * 0.75 - thick * 0.75, along - 0.95)
        return distance, (np.sign(u) * -0.5 * across, 0.7 * across, _dome(0.6 * across**2)), 0

    return shape


SHAPES = {maker.__name__: maker for maker in (ball, cube, cone, can, ring, star, mushroom, fish)}
DISTRACTORS = (rock, stain, plank, leaf, boomerang)
CLUTTER = (rock, leaf, plank)
