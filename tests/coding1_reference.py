"""A decoder of coding 1 in plain Python, written from docs/format.md; slow, with nothing but lists.

Sections in comments are those of that text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

LOGISTIC = [
    *(22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768),
    *(40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514),
]


class BadPayload(Exception):
    """No encoder wrote this."""


class TooShort(BadPayload):
    """It ends before what was asked for."""


def log2(v: int) -> int:
    return max(0, v.bit_length() - 1)


def halves(v: int) -> int:
    if v < 1:
        return 0
    if v >= 2**30:
        return 60
    return 2 * log2(v) + (v * v >= 2 ** (2 * log2(v) + 1))


def rounded(a: int, b: int) -> int:
    return (2 * a + b) // (2 * b)


def clamp(v: int, low: int, high: int) -> int:
    return max(low, min(v, high))


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Form:
    """What size and ratio mean (9.3)."""

    root: int
    area: int
    ratio: int
    inverse: int
    angles: int


@dataclass(frozen=True)
class Parameters:
    """Those of quantizer 1, in the order of the file."""

    root: int
    root_step: int
    ratio_step: int
    place_step: int
    angle_step: int
    color_steps: Sequence[int]

    def form(self, size: int, ratio: int) -> Form:
        root = self.root + size * self.root_step
        octaves = min(ratio * self.ratio_step * 4096 // root, 12 * 4096)
        f = octaves % 4096
        rho = (4096 + ((f * (2689 + (1407 * f // 4096))) // 4096)) * 2 ** (octaves // 4096)
        inverse = 2**24 // rho
        turn = min(rho, 64 * 4096) - inverse
        angles = clamp(rounded((turn * root // 4096) * 12868, self.angle_step * 4096), 1, 1024)
        return Form(root, root * root // 4096, rho, inverse, angles)

    def color_step(self, channel: int, area: int) -> int:
        return max(1, self.color_steps[channel] * 4096 // area)

    def places(self, form: Form, yy: int, box: Box) -> tuple[int, int]:
        s = max(1, self.place_step * form.root // 4096)
        e = math.isqrt(yy * 4096)
        columns = clamp(rounded(box.width * 4096, max(1, s * 4096 // e)), 1, min(4096, 256 * box.width))
        rows = clamp(rounded(box.height * 4096, max(1, s * e // 4096)), 1, min(4096, 256 * box.height))
        return columns, rows


def covariance(ratio: int, inverse: int, angle: int, angles: int) -> tuple[int, int, int]:
    t = angle * 4096 // angles
    p = 4 * t * (4096 - t) // 4096
    sine = p * (3174 + 922 * p // 4096) // 4096
    s = sine * sine // 4096
    k = 4096 - s
    xx = max(1, (ratio * k + inverse * s) // 4096)
    yy = max(1, (ratio * s + inverse * k) // 4096)
    xy = math.isqrt(s * k) * (ratio - inverse) // 4096
    return xx, -xy if 2 * t > 4096 else xy, yy


class RangeDecoder:
    """10.1."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.taken = payload, 0
        self.range, self.value = 2**24, 0
        for _ in range(3):
            self.value = 256 * self.value + self._byte()

    def _byte(self) -> int:
        self.taken += 1
        return self.payload[self.taken - 1] if self.taken <= len(self.payload) else 0

    def _normalize(self) -> None:
        while self.range < 2**24:
            self.range *= 256
            self.value = 256 * self.value + self._byte()

    def bit(self, p: int) -> int:
        bound = self.range * p // 65536
        one = self.value < bound
        if one:
            self.range = bound
        else:
            self.value -= bound
            self.range -= bound
        self._normalize()
        return int(one)

    def even(self, n: int) -> int:
        assert 1 <= n <= 4096
        share = self.range // n
        v = min(self.value // share, n - 1)
        self.value -= share * v
        self.range = self.range - share * v if v == n - 1 else share
        self._normalize()
        return v

    def check(self, allowed: int) -> None:
        if self.taken > len(self.payload) + allowed:
            raise TooShort


def squash(x: int) -> int:
    i, f = divmod(clamp(x, -2047, 2047) + 2048, 128)
    return (LOGISTIC[i] * (128 - f) + LOGISTIC[i + 1] * f + 64) // 128


def _stretch() -> list[int]:
    table, x = [], -2047
    for j in range(4096):
        while x < 2047 and squash(x) < 16 * j:
            x += 1
        table.append(x)
    return table


STRETCH = _stretch()


class Model:
    """10.2."""

    def __init__(self, contexts: Sequence[int], nodes: int) -> None:
        self.contexts = contexts
        self.weights = [[32768 // (len(contexts) + 5)] * len(contexts) for _ in range(nodes)]
        self.counters = [[[(32768, 0)] * nodes for _ in range(count)] for count in contexts]
        self.rows = [rows[0] for rows in self.counters]

    def see(self, *contexts: int) -> None:
        assert len(contexts) == len(self.contexts)
        self.rows = [
            rows[clamp(context, 0, len(rows) - 1)] for rows, context in zip(self.counters, contexts, strict=True)
        ]

    def bit(self, coder: RangeDecoder, node: int) -> int:
        weights = self.weights[node]
        logits = [STRETCH[row[node][0] // 16] for row in self.rows]
        m = squash(sum(w * x for w, x in zip(weights, logits, strict=True)) // 16384)
        b = coder.bit(m)
        target = 65535 * b
        e = (target - m) * 14 // 128
        for k, x in enumerate(logits):
            weights[k] = clamp(weights[k] + (16 * x * e // 65536 + 1) // 2, -32768, 32767)
        for row in self.rows:
            p, n = row[node]
            row[node] = (p + (target - p) * (32768 // (n + 2)) // 32768, min(n + 1, 60))
        return b


# 10.3


def raw(coder: RangeDecoder, k: int) -> int:
    found = 0
    while k > 0:
        j = min(k, 12)
        k -= j
        found = found * 2**j + coder.even(2**j)
    return found


def anything(coder: RangeDecoder, n: int) -> int:
    if n <= 4096:
        return coder.even(n)
    k = log2(n - 1) - 11
    h = coder.even((n - 1) // 2**k + 1)
    return min(h * 2**k + raw(coder, k), n - 1)


def magnitude(coder: RangeDecoder, model: Model) -> int:
    e = 0
    while e < 26 and model.bit(coder, 2 + 2 * min(e, 11)):
        e += 1
    if e == 0:
        return 1
    t = model.bit(coder, 3 + 2 * min(e, 11))
    return (2 + t) * 2 ** (e - 1) + raw(coder, e - 1)


def unsigned(coder: RangeDecoder, model: Model) -> int:
    return magnitude(coder, model) if model.bit(coder, 0) else 0


def signed(coder: RangeDecoder, model: Model) -> int:
    if not model.bit(coder, 0):
        return 0
    negative = model.bit(coder, 1)
    found = magnitude(coder, model)
    return -found if negative else found


@dataclass(frozen=True)
class Node:
    """A box of the tree and its Gaussians."""

    box: Box
    column: int
    row: int
    first: int
    count: int


@dataclass
class Tree:
    """10.4."""

    block: Box
    count: int
    sizes: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])  # log2 of columns and rows by depth
    known: list[dict[tuple[int, int], int]] = field(default_factory=list)
    cells: list[Node] = field(default_factory=list)

    def kept(self, depth: int) -> bool:
        return depth < len(self.sizes) and 2 ** sum(self.sizes[depth]) <= 4 * (self.count + 16)

    def density(self, depth: int, column: int, row: int) -> int:
        a, b = self.sizes[depth]
        if not (0 <= column < 2**a and 0 <= row < 2**b):
            return 0
        h = 0
        while (column, row) not in self.known[depth]:
            above = self.sizes[depth - 1]
            if above[0] < self.sizes[depth][0]:
                column //= 2
            else:
                row //= 2
            depth -= 1
            h += 1
        return 256 * self.known[depth][column, row] // 2**h

    def decode(self, coder: RangeDecoder, model: Model, allowed: int) -> None:
        self.known = [{(0, 0): self.count}]
        nodes = [Node(self.block, 0, 0, 0, self.count)]
        depth = 0
        while nodes:
            a, b = self.sizes[depth]
            wide, high = self.block.width // 2**a, self.block.height // 2**b
            along_x = wide >= high
            halved = self.count > 1 and (wide >= 4 or high >= 4)
            if halved:
                self.sizes.append((a + 1, b) if along_x else (a, b + 1))
                self.known.append({})
            below = []
            for node in nodes:
                if not halved or node.count < 2:
                    self.cells.append(node)
                    continue
                model.see(*self._contexts(depth, node, along_x))
                n = self._split(coder, model, node.count)
                coder.check(allowed)
                for child in self._halves(node, along_x, n):
                    self.known[depth + 1][child.column, child.row] = child.count
                    if child.count:
                        below.append(child)
            nodes = below
            depth += 1
        self.cells.sort(key=lambda node: node.first)

    def _contexts(self, depth: int, node: Node, along_x: bool) -> tuple[int, int, int, int]:
        def c(a: int, b: int) -> int:
            return 3 if a + b <= 0 else min(6, 7 * a // (a + b))

        x = y = z = 3
        dx, dy = (1, 0) if along_x else (0, 1)
        if self.kept(depth):
            before = self.density(depth, node.column - dx, node.row - dy)
            after = self.density(depth, node.column + dx, node.row + dy)
            x = c(before, after)
            if self.kept(depth + 1):
                u, v = node.column * (1 + dx), node.row * (1 + dy)
                y = c(self.density(depth + 1, u - dy, v - dx), self.density(depth + 1, u - dy + dx, v - dx + dy))
                z = c(2 * self.density(depth + 1, u - dx, v - dy), after)
        g = min(node.count, 9) - 2
        return 0, 7 * g + z, 7 * g + y, 7 * x + y

    @staticmethod
    def _split(coder: RangeDecoder, model: Model, n: int) -> int:
        low, high, path, bits = 0, n, 1, 0
        while low < high:
            if n > 8 and bits == 3:
                return low + anything(coder, high - low + 1)
            middle = (low + high) // 2
            at = n * (n - 1) // 2 - 1 + middle if n <= 8 else 35 + 8 * min(log2(n) - 3, 3) + path
            b = model.bit(coder, at)
            if b:
                low = middle + 1
            else:
                high = middle
            path = 2 * path + b
            bits += 1
        return low

    @staticmethod
    def _halves(node: Node, along_x: bool, n: int) -> tuple[Node, Node]:
        box, rest = node.box, node.count - n
        if along_x:
            w, column = box.width // 2, 2 * node.column
            left, right = Box(box.x, box.y, w, box.height), Box(box.x + w, box.y, box.width - w, box.height)
            return Node(left, column, node.row, node.first, n), Node(right, column + 1, node.row, node.first + n, rest)
        h, row = box.height // 2, 2 * node.row
        upper, lower = Box(box.x, box.y, box.width, h), Box(box.x, box.y + h, box.width, box.height - h)
        return Node(upper, node.column, row, node.first, n), Node(lower, node.column, row + 1, node.first + n, rest)


@dataclass
class Gaussian:
    """Symbols, and what others see of them."""

    size: int
    ratio: int
    angle: int
    x: int
    y: int
    form: Form
    colors: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    @property
    def spot(self) -> tuple[int, int]:
        return self.x // 64, self.y // 64

    @property
    def direction(self) -> int:
        return (self.angle * 1024 // self.form.angles + 32) // 64 % 16

    @property
    def lean(self) -> int:
        return 0 if self.form.ratio < 6000 else 1 if self.form.ratio < 12000 else 2


@dataclass
class Waiting:
    """A Gaussian without a colour and what it was lent (10.6)."""

    number: int
    gaussian: Gaussian
    weight: int = 0
    error: int = 0
    values: list[int] = field(default_factory=list)


class BlockDecoder:
    """All levels of a block, one after the other."""

    def __init__(self, parameters: Parameters, block: Box) -> None:
        self.parameters, self.block = parameters, block
        self.channels = len(parameters.color_steps)
        self.split = Model((1, 56, 56, 49), 67)
        self.size = Model((4, 16, 16, 51, 68), 26)
        self.ratio = Model((16, 16, 64, 64), 26)
        self.angle = Model((11, 144, 48, 1), 8)
        self.color = [Model((16, 16, 16, 27, 9), 26) for _ in range(self.channels)]
        self.gaussians: list[Gaussian] = []
        self.level = 0
        self.sizes = 0

    def decode(self, payload: bytes, count: int, *, cut: bool = False) -> list[Gaussian]:
        """The next level: its Gaussians that are whole.

        Raises:
            BadPayload: the payload is malformed, or short though it is not said to be cut.
        """
        if count == 0:
            return []
        if 8 * len(payload) < count:
            if cut:
                return []
            raise TooShort
        coder, allowed = RangeDecoder(payload), 0 if cut else 4
        earlier = len(self.gaussians)
        back = min(earlier, 16 * count + 1024)
        try:
            tree = Tree(self.block, count)
            tree.decode(coder, self.split, allowed)
            self._shapes(coder, tree, back, allowed)
        except BadPayload:
            if cut and coder.taken > len(payload):
                return []
            raise
        done = self._colors(coder, earlier, back, allowed, cut)
        self.level += 1
        return [one for number, one in enumerate(self.gaussians[earlier:]) if number in done]

    # 10.5

    def _shapes(self, coder: RangeDecoder, tree: Tree, back: int, allowed: int) -> None:
        seen = back + tree.count
        area = self.block.width * self.block.height
        k = max(2, (log2(max(1, area // seen)) + 1) // 2)
        latest: dict[tuple[int, int], Gaussian] = {}

        def square(x: int, y: int) -> tuple[int, int]:
            return (x - 16 * self.block.x) // 16 // 2**k, (y - 16 * self.block.y) // 16 // 2**k

        for one in self.gaussians[len(self.gaussians) - back :]:
            latest[square(*one.spot)] = one
        d = 0
        while tree.kept(d + 1) and 2 ** sum(tree.sizes[d + 1]) <= tree.count // 4:
            d += 1
        for cell in tree.cells:
            box = cell.box
            density, room = self._classes(tree, d, box)
            x, y = 16 * box.x + 8 * box.width, 16 * box.y + 8 * box.height
            for _ in range(cell.count):
                near = self._near(latest, square(x, y), x, y)
                one = self._shape(coder, box, density, room, near, 256 * area // seen)
                coder.check(allowed)
                latest[square(*one.spot)] = one
                self.gaussians.append(one)
                self.sizes += one.size

    def _classes(self, tree: Tree, d: int, box: Box) -> tuple[int, int]:
        a, b = tree.sizes[d]
        block, count = self.block, tree.count
        column = (2 * (box.x - block.x) + box.width) * 2**a // (2 * block.width)
        row = (2 * (box.y - block.y) + box.height) * 2**b // (2 * block.height)
        n = sum(tree.density(d, column + i, row + j) for j in (-1, 0, 1) for i in (-1, 0, 1))
        density = min(15, halves(16 * n // (2304 * count // 2 ** (a + b))))
        share = max(1, 256 * block.width * block.height // count)
        return density, min(15, halves(4096 * box.width * box.height // share))

    @staticmethod
    def _near(
        latest: dict[tuple[int, int], Gaussian], square: tuple[int, int], x: int, y: int
    ) -> list[tuple[int, Gaussian]]:
        def looked(offsets: list[tuple[int, int]]) -> list[tuple[int, Gaussian]]:
            found = []
            for i, j in offsets:
                one = latest.get((square[0] + i, square[1] + j))
                if one is not None:
                    found.append(((one.spot[0] - x) ** 2 + (one.spot[1] - y) ** 2, one))
            return found

        inner = [(i, j) for j in range(-1, 2) for i in range(-1, 2)]
        outer = [(i, j) for j in range(-2, 3) for i in range(-2, 3) if max(abs(i), abs(j)) == 2]
        found = looked(inner)
        if len(found) < 2:
            found += looked(outer)
        return sorted(found, key=lambda pair: pair[0])[:2]  # stable: the one seen first of equals

    def _shape(
        self, coder: RangeDecoder, box: Box, density: int, room: int, found: list[tuple[int, Gaussian]], z: int
    ) -> Gaussian:
        closeness = 0
        near = after = None
        if found:
            q, near = found[0]
            after = found[-1][1]
            closeness = 0 if 4 * q < z else 1 if q < z else 2
        centre = self.sizes // len(self.gaussians) if self.gaussians else 20

        i = j = 8
        if near and after:
            i = clamp((near.size - centre + 24) // 3, 0, 16)
            j = clamp((near.size + after.size - 2 * centre + 40) // 5, 0, 16)
        self.size.see(min(self.level, 3), density, room, 3 * i + closeness, 4 * j + density // 4)
        size = centre + signed(coder, self.size)
        if size < 0 or self.parameters.root + size * self.parameters.root_step > 2**19:
            raise BadPayload("size")

        i = j = 15
        if near and after:
            i, j = min(near.ratio, 14), min((near.ratio + after.ratio) // 2, 14)
        o = min(15, halves(size))
        self.ratio.see(o, density, 4 * i + o // 4, 4 * j + closeness)
        ratio = unsigned(coder, self.ratio)
        if ratio > 2**20:
            raise BadPayload("ratio")

        form = self.parameters.form(size, ratio)
        i = j = 0
        if near and after:
            i, j = 3 * near.direction + near.lean, 3 * after.direction + after.lean
        self.angle.see(log2(form.angles), 3 * i + closeness, j, 0)
        angle = self._angle(coder, form.angles)

        yy = covariance(form.ratio, form.inverse, angle, form.angles)[2]
        columns, rows = self.parameters.places(form, yy, box)
        r, c = coder.even(rows), coder.even(columns)
        y = 1024 * box.y + (2 * r + 1) * 1024 * box.height // (2 * rows)
        x = 1024 * box.x + (2 * c + 1) * 1024 * box.width // (2 * columns)
        return Gaussian(size, ratio, angle, x, y, form)

    def _angle(self, coder: RangeDecoder, angles: int) -> int:
        low, high, path, bits = 0, angles, 1, 0
        while high - low > 1:
            if bits == 3:
                low += coder.even(high - low)
                break
            middle = (low + high) // 2
            b = self.angle.bit(coder, path)
            if b:
                low = middle
            else:
                high = middle
            path = 2 * path + b
            bits += 1
        return (low + angles - angles // 16) % angles

    # 10.6

    def _colors(self, coder: RangeDecoder, earlier: int, back: int, allowed: int, cut: bool) -> set[int]:
        level = self.gaussians[earlier:]
        order = sorted(range(len(level)), key=lambda number: -level[number].size)
        waiting = [Waiting(number, level[number], values=[0] * self.channels) for number in order]
        loans = Loans(self.block, waiting)
        for one in self.gaussians[earlier - back : earlier]:
            loans.lend(one, 0)
        sums, n = [0] * self.channels, 0
        done: set[int] = set()
        for one in waiting:
            try:
                error = self._color(coder, one, sums, n)
                coder.check(allowed)
            except BadPayload:
                if cut and coder.taken > len(coder.payload):
                    return done
                raise
            done.add(one.number)
            if n < 65536:
                n += 1
                sums = [total + value for total, value in zip(sums, one.gaussian.values, strict=True)]
            loans.remove(one)
            loans.lend(one.gaussian, error // self.channels)
        return done

    def _color(self, coder: RangeDecoder, one: Waiting, sums: list[int], n: int) -> int:
        gaussian = one.gaussian
        confidence = min(15, halves(one.weight // 32))
        s = min(15, halves(gaussian.size))
        residuals = [0, 0]
        error = 0
        for channel in range(self.channels):
            step = self.parameters.color_step(channel, gaussian.form.area)
            most = min(2**24, 2**34 // step)
            usual = rounded(sums[channel], n * step) if n else rounded(32768, step)
            expected, trouble = usual, 0
            if one.weight:
                expected = rounded(one.values[channel], one.weight * step)
                trouble = clamp(halves(4 * (one.error // one.weight)) - halves(step), 0, 15)
            expected = clamp(expected, -most, most)
            self.color[channel].see(
                confidence,
                s,
                trouble,
                3 * clamp(residuals[-1] + 4, 0, 8) + min(abs(residuals[-2]), 2),
                clamp((usual - expected + 16) // 4, 0, 8),
            )
            residual = signed(coder, self.color[channel])
            symbol = expected + residual
            if abs(symbol) > most:
                raise BadPayload("color")
            gaussian.colors.append(symbol)
            gaussian.values.append(symbol * step)
            residuals.append(residual)
            error += abs(residual) * step
        return error


class Loans:
    """Who waits where, and how colours are lent."""

    def __init__(self, block: Box, waiting: list[Waiting]) -> None:
        self.block = block
        self.visits = 256 * len(waiting)
        share = max(1, block.width * block.height // len(waiting))
        self.j = max(2, (log2(share) + 1) // 2 + 1)
        self.columns, self.rows = block.width // 2**self.j + 1, block.height // 2**self.j + 1
        self.squares: dict[tuple[int, int], list[Waiting]] = {}
        for one in waiting:
            self.squares.setdefault(self._square(*one.gaussian.spot), []).append(one)

    def _square(self, x: int, y: int) -> tuple[int, int]:
        return (x - 16 * self.block.x) // (16 * 2**self.j), (y - 16 * self.block.y) // (16 * 2**self.j)

    def remove(self, one: Waiting) -> None:
        queue = self.squares[self._square(*one.gaussian.spot)]
        assert queue[0] is one
        queue.pop(0)

    def lend(self, lender: Gaussian, error: int) -> None:
        if self.visits < 0:
            return
        form = lender.form
        ratio, inverse = (64 * 4096, 64) if form.ratio > 64 * 4096 else (form.ratio, form.inverse)
        xx, xy, yy = covariance(ratio, inverse, lender.angle, form.angles)
        g = clamp(form.area // 256, 1, 2**14)
        reach_x = min(2**14, math.isqrt(9 * (g * g * xx // 4096)))
        reach_y = min(2**14, math.isqrt(9 * (g * g * yy // 4096)))
        k = 2 * log2(g) + 4
        a, c = yy * 2**k // (g * g), xx * 2**k // (g * g)
        b = 2 * (abs(xy) * 2**k // (g * g)) * (1 if xy < 0 else -1)
        x, y = lender.spot
        column, row = self._square(x, y)
        left, top = self._square(x - reach_x, y - reach_y)
        right, bottom = self._square(x + reach_x, y + reach_y)
        for v in range(max(0, row - 8, top), min(self.rows - 1, row + 8, bottom) + 1):
            for u in range(max(0, column - 8, left), min(self.columns - 1, column + 8, right) + 1):
                queue = self.squares.get((u, v), [])[:32]
                self.visits -= len(queue) + 1
                if self.visits < 0:
                    return
                for one in queue:
                    dx, dy = one.gaussian.spot[0] - x, one.gaussian.spot[1] - y
                    q = (a * dx * dx + b * dx * dy + c * dy * dy) // 2 ** (k + 8)
                    if abs(dx) > reach_x or abs(dy) > reach_y or not 0 <= q < 144 or one.weight >= 65536:
                        continue
                    w = 4096 * 196608 // (196608 + 6144 * q + 96 * q * q + q**3)
                    one.weight += w
                    one.error += w * error
                    one.values = [total + w * value for total, value in zip(one.values, lender.values, strict=True)]
