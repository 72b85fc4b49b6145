"""The compiled module's surroundings: threads and processes, its types, and life without it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from imagegs.kernels import native

ROOT = Path(__file__).resolve().parents[1]
compiled_only = pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")


def scene(n: int = 400, size: tuple[int, int] = (90, 120)) -> list[np.ndarray]:
    random = np.random.default_rng(n)
    arrays = [
        random.uniform((0, 0), size[::-1], (n, 2)),
        random.uniform(1, 9.0, (n, 2)),
        random.uniform(-4, 4, n),
        random.uniform(0, 1, (n, 3)),
        random.uniform(0, 1, 3),
    ]
    return [array.astype(np.float32) for array in arrays]


def picture(arrays, size: tuple[int, int] = (90, 120), blend: str = "normalized") -> np.ndarray:
    rasterizer = native.Rasterizer()
    rasterizer.prepare(*arrays[:4], size, native.IDENTITY, blend)
    return rasterizer.forward(arrays[4])


def run(script: str, *arguments: str, **environment: str) -> str:
    """What a script prints in a process of its own; it must leave with status 0."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@compiled_only
def test_python_threads_render_at_once():
    scenes = [scene(n) for n in (300, 500, 700)]
    wanted = [picture(arrays) for arrays in scenes]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(15):
            if not np.array_equal(picture(scenes[index]), wanted[index]):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@compiled_only
def test_the_gil_is_released_and_a_renderer_serves_one_thread():
    """That it is busy can only be seen by a thread that runs while another one renders."""
    arrays, size = scene(2000, (500, 500)), (500, 500)
    renderer, stop = native._native.Renderer(), threading.Event()
    renderer.prepare(*arrays[:4], *size, native.IDENTITY, 0, 10)
    mine, other = np.empty((3, *size), np.float32), np.empty((3, *size), np.float32)

    def work() -> None:
        while not stop.is_set():
            try:
                renderer.forward(arrays[4], other, False)
            except RuntimeError:
                continue

    worker = threading.Thread(target=work)
    worker.start()
    try:
        refused, deadline = False, time.monotonic() + 20
        while not refused and time.monotonic() < deadline:
            try:
                renderer.forward(arrays[4], mine, False)
            except RuntimeError as error:
                refused = "one thread at a time" in str(error)
    finally:
        stop.set()
        worker.join()
    assert refused
    renderer.forward(arrays[4], mine, False)
    np.testing.assert_array_equal(mine, picture(arrays, size))


@compiled_only
def test_more_threads_than_cores():
    arrays = scene()
    wanted = picture(arrays)
    before = native._native.threads()
    for count in (256, 3, 10_000, 1, 0, 64):
        with native.threads(count):
            assert 1 <= native._native.threads() <= 256
            np.testing.assert_array_equal(picture(arrays), wanted)
    assert native._native.threads() == before


@compiled_only
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("child_renders", [True, False])
def test_a_forked_child_renders_and_leaves(child_renders):
    """The child has none of its parent's threads: it must neither wait for them nor join them on its way out."""
    script = """
import os, sys
import numpy as np
from imagegs.kernels import native
random = np.random.default_rng(0)
arrays = [np.float32(random.uniform(1, 90, shape)) for shape in ((300, 2), (300, 2), 300, (300, 3), 3)]
def picture():
    rasterizer = native.Rasterizer()
    rasterizer.prepare(*arrays[:4], (90, 120))
    return rasterizer.forward(arrays[4]).copy()
with native.threads(4):
    wanted = picture()
    child = os.fork()
    if child == 0:
        sys.exit(0 if sys.argv[1] == "False" or np.array_equal(picture(), wanted) else 3)
    assert np.array_equal(picture(), wanted)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("done")
"""
    assert run(script, str(child_renders)) == "done\n"


@compiled_only
@pytest.mark.skipif(
    sys.platform != "linux" or "asan" in os.environ.get("LD_PRELOAD", ""), reason="limits memory as Linux does"
)
def test_memory_that_runs_out_is_an_exception_and_the_module_lives_on():
    script = """
import resource
import numpy as np
from imagegs.kernels import native
n = 400_000
means, scales = np.full((n, 2), 64, np.float32), np.full((n, 2), 500, np.float32)
rotations, colors, background = np.zeros(n, np.float32), np.ones((n, 1), np.float32), np.zeros(1, np.float32)
few = (means[:5], scales[:5], rotations[:5], colors[:5])
rasterizer = native.Rasterizer()
with native.threads(3):
    rasterizer.prepare(*few, (128, 128))
    wanted = rasterizer.forward(background).copy()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), resource.RLIM_INFINITY))
    try:
        rasterizer.prepare(means, scales, rotations, colors, (128, 128), blend="topk")
        rasterizer.forward(background)
    except MemoryError:
        print("refused")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    rasterizer.prepare(*few, (128, 128))
    assert np.array_equal(rasterizer.forward(background), wanted)
print("done")
"""
    assert run(script) == "refused\ndone\n"


@compiled_only
@pytest.mark.parametrize(("name", "value"), [("IMAGEGS_THREADS", "3"), ("IMAGEGS_KERNELS", "baseline")])
def test_settings_by_environment(name, value):
    script = "from imagegs.kernels import native; print(native._native.threads(), native.instruction_set())"
    assert value in run(script, **{name: value}).split()


@compiled_only
def test_an_instruction_set_that_is_none_is_named():
    script = """
from imagegs.errors import DeviceError
try:
    from imagegs.kernels import native
except DeviceError as error:
    print(error)
"""
    assert "IMAGEGS_KERNELS: expected auto" in run(script, IMAGEGS_KERNELS="abacus")


@compiled_only
def test_the_stub_names_everything():
    tree = ast.parse(files("imagegs").joinpath("kernels", "_native.pyi").read_text(encoding="utf-8"))

    def names(body: list[ast.stmt]) -> set[str]:
        targets = {
            node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        return targets | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}

    def public(thing: object) -> set[str]:
        return {name for name in vars(thing) if not name.startswith("_")}

    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert names(tree.body) == public(native._native)
    assert set(classes) == {"Renderer", "BlockCodec", "Sampler", "Malformed"}
    for name in ("Renderer", "BlockCodec", "Sampler"):
        assert names(classes[name].body) - {"__init__"} == public(getattr(native._native, name))


EVERYTHING = """
import sys, warnings
import numpy as np
missing = sys.argv[1] == "missing"
if missing:
    sys.modules["imagegs.kernels._native"] = None
from imagegs.errors import ImageGSWarning
from imagegs.kernels import native
import imagegs
assert native.available() != missing and (native.instruction_set() == "reference") == missing
with np.load(sys.argv[2]) as stored:
    data = {name: stored[name] for name in stored}
arrays = [data[name] for name in ("means", "scales", "rotations", "colors")]
found = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for blend in ("normalized", "topk", "sum"):
        rasterizer = native.Rasterizer()
        rasterizer.prepare(*arrays, data["target"].shape[1:], native.IDENTITY, blend, 4)
        found[blend] = rasterizer.forward(data["background"], keep=True)
        found[blend + ".growth"] = rasterizer.removal(data["background"], data["target"], data["weights"])
        gradients = rasterizer.backward(
            data["background"], l1=0.5, l2=1.0, fused=True,
            target=data["target"], weights=data["weights"], v_image=data["v_image"],
        )
        for name, value in gradients._asdict().items():
            found[f"{blend}.{name}"] = np.asarray(value)
        assert np.array_equal(rasterizer.image, found[blend])
    v_image = np.ones_like(data["target"])
    found["ssim"] = np.asarray(native.ssim(found["sum"], data["target"], data["weights"], scale=0.5, v_image=v_image))
    found["v_ssim"] = v_image
    first, second = np.zeros_like(data["step"]), np.zeros_like(data["step"])
    for step in (1, 2):
        found["update"] = native.adam(data["step"], first, second, betas=(0.9, 0.99), epsilon=1e-8, step=step)
    moved = [array.copy() for array in arrays[:3]]
    native.apply_local(data["step"], (0.1, 0.2, 0.3), (0.5, 7.0), *moved)
    found.update(zip(("means", "scales", "rotations"), moved))
    with native.threads(3):
        gaussians = imagegs.Gaussians2D(*arrays, height=40, width=50, background=data["background"])
        found["render"] = imagegs.render(gaussians, 20, 30, region=(3, 4, 40, 30), threads=2)
ours = [warning for warning in caught if issubclass(warning.category, ImageGSWarning)]
assert len(ours) == missing and all("install a C++ compiler" in str(warning.message) for warning in ours), caught
np.savez(sys.argv[3], **found)
"""


@compiled_only
def test_without_the_compiled_module_the_reference_stands_in(tmp_path):
    size, random = (40, 50), np.random.default_rng(0)
    arrays = scene(25, size)
    data = dict(zip(("means", "scales", "rotations", "colors", "background"), arrays, strict=True))
    data["target"] = random.uniform(0, 1, (3, *size)).astype(np.float32)
    data["weights"] = random.uniform(0, 2, size).astype(np.float32)
    data["v_image"] = random.normal(0, 1e-4, (3, *size)).astype(np.float32)
    data["step"] = random.normal(size=(25, 5)).astype(np.float32)
    np.savez(tmp_path / "data.npz", **data)
    for state in ("missing", "there"):
        run(EVERYTHING, state, str(tmp_path / "data.npz"), str(tmp_path / f"{state}.npz"), OMP_NUM_THREADS="1")
    with np.load(tmp_path / "missing.npz") as found, np.load(tmp_path / "there.npz") as wanted:
        assert set(found) == set(wanted)
        assert len(found) > 25
        for name in wanted:
            assert found[name].shape == wanted[name].shape, name
            error = np.abs(found[name] - wanted[name]).max() if wanted[name].size else 0
            assert error < 2e-3 * max(1e-3, np.abs(wanted[name]).max()), name
