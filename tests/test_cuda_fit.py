"""Fits, renders and files on a GPU whose kernels the CPU runs: the same quality as on the CPU, in every kind of fit."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_host import needs_compiler, pretended_gpu
from typer.testing import CliRunner

import imagegs
from imagegs.cli import app
from imagegs.codec.lattice import Lattice
from imagegs.errors import DeviceError
from imagegs.fitting import fit as fitting
from imagegs.fitting import resident
from imagegs.fitting.config import Loss, make_config
from imagegs.fitting.device_growth import DeviceGrowth
from imagegs.fitting.device_loop import DeviceLoop
from imagegs.fitting.device_solve import solve_colors_on
from imagegs.fitting.growth import error_density, least_worth
from imagegs.fitting.initialization import Gaussians, spawn
from imagegs.fitting.loop import Loop, Scene
from imagegs.fitting.losses import solve_colors
from imagegs.fitting.noise import perturb
from imagegs.fitting.targets import Target, make_target
from imagegs.kernels import cuda, native
from imagegs.torch import render as draw

gpu = pretended_gpu
pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built"),
    pytest.mark.usefixtures("one_torch_thread", "gpu"),
]
SIZE = (24, 33)
NAMES = ("means", "scales", "rotations", "colors")


@pytest.fixture
def small(scene):
    return np.ascontiguousarray(scene[:, 10:34, 30:63])


def fitted(pixels, device, **settings):
    return fitting.run(pixels, make_config(pixels.shape[1:], **settings), device=device)


def test_the_first_steps_are_those_of_the_cpu(small):
    settings = {"gaussians": 40, "steps": 6, "relocate": 0.0, "start_fraction": 1.0, "color_solve": 0}
    ours, theirs = fitted(small, "cuda", **settings), fitted(small, "cpu", **settings)
    assert ours.psnr == pytest.approx(theirs.psnr, abs=1e-2)
    for name in NAMES:
        one, other = getattr(ours.gaussians, name), getattr(theirs.gaussians, name)
        assert np.median(np.abs(one - other)) < 1e-4
        np.testing.assert_allclose(one, other, atol=2e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"blend": "topk", "top_k": 4},
        {"loss": Loss(l1=0.3, l2=0.5, ssim=0.05)},
        {"lattice": Lattice.of(0.75, 3), "betas": (0.7, 0.9), "noise_from": 0.3},
        {"overshoot": 0.2, "relocate": 0.1},
        {"patience": 5, "patience_gain": 3.0},
    ],
    ids=["plain", "topk", "ssim", "noise", "pruned", "impatient"],
)
def test_a_fit_ends_as_well_as_on_the_cpu(small, settings):
    settings = {"gaussians": 60, "steps": 60, "relocate_every": 10, **settings}
    ours, theirs = fitted(small, "cuda", **settings), fitted(small, "cpu", **settings)
    assert len(ours.gaussians) == len(theirs.gaussians) == 60
    assert ours.psnr > theirs.psnr - 1.0
    assert ours.psnr > 20
    assert ours.added_at == theirs.added_at
    if "patience" not in settings:
        assert ours.steps == theirs.steps == 60
    rows = np.array(ours.history)
    assert (np.diff(rows[:, 0]) >= 0).all()
    assert rows[-1, 0] == ours.steps


def test_the_best_state_is_kept(small):
    settings = {"gaussians": 30, "steps": 30, "relocate": 0.0, "start_fraction": 1.0, "color_solve": 0, "hold": 0.2}
    # rates that make the end worse than the middle
    ours = fitted(small, "cuda", **settings, decay=1.0, rates={"position": 1.5, "scale": 0.8, "color": 0.5})
    psnrs = [row[2] for row in ours.history]
    assert ours.psnr >= max(psnrs) - 1e-3


def test_half_size_first(scene):
    pixels = np.concatenate([scene, scene[:, ::-1]], axis=1)[:, :66, :70]
    ours = fitted(np.ascontiguousarray(pixels), "cuda", gaussians=80, steps=20, coarse=0.3)
    assert len(ours.gaussians) == 80
    assert ours.psnr > 15


@pytest.mark.parametrize("profile", ["image-gs", "gaussian-image"])
def test_profiles_render_on_the_gpu_and_step_on_the_host(small, profile, gpu):
    settings = {"gaussians": 30, "steps": 4, "profile": profile}
    gpu._launcher.launched.clear()
    ours = fitted(small, "cuda", **settings)
    assert {"forward", "backward"} <= set(gpu._launcher.launched) or "fused" in gpu._launcher.launched
    assert ours.psnr == pytest.approx(fitted(small, "cpu", **settings).psnr, abs=0.05)


def test_levels_and_operators(small):
    settings = {"gaussians": 40, "steps": 12, "level_shares": (0.3,)}
    ours = fitted(small, "cuda", **settings)
    assert ours.psnr == pytest.approx(fitted(small, "cpu", **settings).psnr, abs=0.3)
    config = make_config(SIZE, gaussians=30, steps=5, color_solve=0)
    ours = fitting.run(small, config, operator=lambda image: image * 0.5, device="cuda")
    theirs = fitting.run(small, config, operator=lambda image: image * 0.5, device="cpu")
    assert ours.psnr == pytest.approx(theirs.psnr, abs=0.05)


def test_what_stays_on_the_gpu(small):
    config = make_config(SIZE, gaussians=30, steps=5)
    assert fitting._loop_for(config, None, "cuda:0") is DeviceLoop
    assert fitting._loop_for(config, None, "cpu") is Loop
    assert fitting._loop_for(config, lambda image: image, "cuda:0") is Loop
    for changed in ({"shape": "cholesky"}, {"schedule": "plateau"}):
        assert fitting._loop_for(replace(config, **changed), None, "cuda:0") is Loop


def test_too_little_room_for_pairs_takes_the_steps_again(small, monkeypatch):
    settings = {"gaussians": 40, "steps": 12, "relocate": 0.0, "start_fraction": 1.0}
    wanted = fitted(small, "cuda", **settings)
    monkeypatch.setattr(resident, "LEAST_ROOM", 1)
    monkeypatch.setattr(resident, "ROOM", 1.0)  # just what the start needs: the first scales that grow need more
    rooms = []
    make = resident.Resident._make_room
    monkeypatch.setattr(resident.Resident, "_make_room", lambda self, pairs: (rooms.append(pairs), make(self, pairs)))
    found = fitted(small, "cuda", **settings)
    assert len(rooms) > 1
    assert rooms == sorted(rooms)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found.gaussians, name), getattr(wanted.gaussians, name))


@pytest.mark.parametrize("failure", [None, RuntimeError("operation not permitted\nwhen stream is capturing")])
def test_steps_are_captured_once_and_replayed(small, monkeypatch, gpu, failure):
    settings = {"gaussians": 40, "steps": 30, "relocate": 0.0}
    wanted = fitted(small, "cuda", **settings)
    seen, whose = [], []

    class Graph:
        def replay(self):
            seen.append("replay")
            whose[-1]._step()

    @contextmanager
    def capture(graph):
        """What is captured does not run."""
        if failure is not None:
            raise failure
        seen.append("capture")
        launch, whose[-1]._step = whose[-1]._step, lambda: None
        yield
        whose[-1]._step = launch

    make = resident.Resident._captured
    monkeypatch.setattr(resident.Resident, "_captured", lambda self: (whose.append(self), make(self))[1])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(gpu, "graphs", True)
    if failure is None:
        found = fitted(small, "cuda", **settings)
        assert seen[0] == "capture"
        assert seen.count("capture") <= 3  # once, and where pairs needed more room
        assert seen.count("replay") >= 26
    else:
        with pytest.warns(
            imagegs.ImageGSWarning, match="^steps take longer, no CUDA graph could be captured: operation"
        ):
            found = fitted(small, "cuda", **settings)
        assert not gpu.graphs
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found.gaussians, name), getattr(wanted.gaussians, name))


def test_noise_is_that_of_the_lattice(small):
    config = make_config(SIZE, gaussians=50, steps=5, lattice=Lattice.of(0.75, 3, (0,)))
    random = np.random.default_rng(0)
    model = Gaussians(
        random.uniform(0, 24, (50, 2)).astype(np.float32),
        random.uniform(0.5, 5, (50, 2)).astype(np.float32),
        random.uniform(0, 3, 50).astype(np.float32),
        random.uniform(0, 1, (50, 3)).astype(np.float32),
    )

    class Fixed:
        def random(self, shape, dtype):
            return noise + np.float32(0.5)

    noise = (random.uniform(-0.5, 0.5, (50, 8))).astype(np.float32)
    wanted = perturb(model, config.lattice, Fixed())
    device = imagegs.devices.open_gpu(0)
    steps = resident.Resident(device, [Scene.of(make_target(small), config)], config, [60])
    moments = {name: np.zeros((50, 5 if "local" in name else 3), np.float32) for name in resident.MOMENTS}
    steps.load([model], [moments], [None], [0.0])
    steps._noise[0, :50] = torch.from_numpy(noise)
    for found, array in zip(steps._perturbed(config.lattice), wanted.arrays(), strict=True):
        np.testing.assert_allclose(found[:50].numpy(), array, rtol=1e-4, atol=1e-5)
    assert steps._perturbed(config.lattice)[0][50:].isnan().all()


@pytest.mark.parametrize("init", ["structure", "random"])
def test_growth_is_that_of_the_cpu(small, init):
    random = np.random.default_rng(0)
    weights, guide = random.uniform(0.5, 2, (2, *SIZE)).astype(np.float32)
    target = Target(small, weights=weights, growth=guide)
    config = make_config(SIZE, gaussians=60, steps=5, init=init, start_scale=None if init == "structure" else 2.0)
    scene = Scene.of(target, config)
    device = imagegs.devices.open_gpu(0)
    ours = DeviceGrowth(device, scene, config)
    image = random.uniform(0, 1, small.shape).astype(np.float32)
    density, wanted = ours.density(torch.from_numpy(image)), error_density(image, target, config)
    np.testing.assert_allclose(density.numpy(), wanted, rtol=1e-5)
    pixels = np.sort(random.choice(small[0].size, 20, replace=False))
    found = ours.spawn(torch.from_numpy(pixels), density, 20, 30)
    model = spawn(pixels, scene.start * 30 + wanted * 20, target, scene.structure, config)
    for one, other in zip(found, model.arrays(), strict=True):
        assert one.dtype == torch.float32
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-4)

    rasterizer = native.Rasterizer()
    rasterizer.prepare(*model.arrays(), SIZE)
    rasterizer.forward(scene.background, keep=True)
    rows = least_worth(rasterizer, model, scene.background, target, 7)
    growth = torch.from_numpy(rasterizer.removal(scene.background, small, weights))
    assert ours.least_worth(growth, found[0], 7).tolist() == rows.tolist()


@pytest.mark.parametrize("blend", ["normalized", "topk", "sum"])
def test_colours_are_solved_as_on_the_cpu(small, blend):
    weights = np.random.default_rng(0).uniform(0.2, 2, SIZE).astype(np.float32)
    config = make_config(SIZE, gaussians=40, steps=30, blend=blend, top_k=3, color_solve=6)
    model = Gaussians(*(np.array(getattr(fitting.run(small, config, device="cpu").gaussians, name)) for name in NAMES))
    scene = Scene.of(Target(small, weights=weights), config)
    model.colors[:] = 0.5
    wanted = solve_colors(
        native.Rasterizer(), model, scene.background, scene.target, config.blend, config.top_k, config.color_solve
    )
    found = solve_colors_on(imagegs.devices.open_gpu(0), model, scene, config)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert np.abs(found - 0.5).max() > 0.1


def test_pixels_are_drawn_by_their_density(small):
    config = make_config(SIZE, gaussians=60, steps=5)
    ours = DeviceGrowth(imagegs.devices.open_gpu(0), Scene.of(make_target(small), config), config)
    density = torch.zeros(SIZE, dtype=torch.float64)
    density[:6] = 1 / (6 * SIZE[1])
    drawn = ours.draw(density, 50, torch.Generator().manual_seed(0))
    assert len(set(drawn.tolist())) == 50
    assert drawn.tolist() == sorted(drawn.tolist())
    assert int(drawn.max()) < 6 * SIZE[1]
    assert torch.equal(drawn, ours.draw(density, 50, torch.Generator().manual_seed(0)))
    assert not torch.equal(drawn, ours.draw(density, 50, torch.Generator().manual_seed(1)))
    every = ours.draw(density, small[0].size, torch.Generator())
    assert every.tolist() == list(range(small[0].size))
    assert len(set(ours.draw(density, small[0].size - 1, torch.Generator().manual_seed(0)).tolist())) == len(every) - 1


def test_many_pictures_at_once(scene, gpu):
    pictures = [scene[:, :24, :33], scene[:, 20:37, 30:80], scene[:, 10:26, 5:21], scene[:, 40:64, :24]]
    settings = {"steps": 60, "relocate_every": 10}
    gpu._launcher.launched.clear()
    ours = imagegs.fit_many(pictures, [60, 50, 20, 30], device="cuda", **settings)
    assert gpu._launcher.launched.count("fused") <= 60 + 12  # all of them in a step; some are taken again
    theirs = imagegs.fit_many(pictures, [60, 50, 20, 30], device="cpu", **settings)
    for picture, one, other, count in zip(pictures, ours, theirs, (60, 50, 20, 30), strict=True):
        assert len(one) == len(other) == count
        assert (one.height, one.width) == picture.shape[1:]
        errors = [np.mean((np.clip(imagegs.render(found), 0, 1) - picture) ** 2) for found in (one, other)]
        assert 10 * np.log10(errors[0] / errors[1]) < 2.5
    again = imagegs.fit_many(pictures, [60, 50, 20, 30], device="cuda", **settings)
    assert all(np.array_equal(one.means, other.means) for one, other in zip(ours, again, strict=True))
    assert imagegs.fit_many([], device="cuda") == []


def test_a_batch_of_one_is_a_fit(small):
    settings = {"gaussians": 40, "steps": 12, "relocate": 0.0, "start_fraction": 1.0, "color_solve": 0}
    (ours,) = imagegs.fit_many([small], device="cuda", **settings)
    alone = fitted(small, "cuda", **settings).gaussians
    for name in NAMES:
        np.testing.assert_array_equal(getattr(ours, name), getattr(alone, name))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shape": "cholesky"}, "shape: expected 'local' for many pictures, found 'cholesky'"),
        ({"loss": Loss(ssim=0.1)}, "loss: expected no SSIM for many pictures, found 0.1"),
        ({"overshoot": 0.1}, "overshoot: expected 0.0 for many pictures, found 0.1"),
        ({"gaussians": [4, 5]}, "gaussians: expected 3 numbers, found 2"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_many_pictures_cannot_share(small, device, settings, said):
    with pytest.raises(imagegs.ConfigError, match=f"^{said}$"):
        imagegs.fit_many([small] * 3, **{"gaussians": 4, **settings}, device=device)
    with pytest.raises(imagegs.ConfigError, match=r"^images: expected one number of channels, found 1 and 3$"):
        imagegs.fit_many([small, small[:1]], 4, device=device)


def test_too_little_memory_for_a_fit(small, monkeypatch):
    def refuse(*arguments, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    imagegs.devices.open_gpu(0)
    monkeypatch.setattr(cuda, "free_memory", lambda device: 1 << 30)
    monkeypatch.setattr(torch, "zeros", refuse)
    said = r"^device: cpu needs about 0\.0 GiB for {}, found 1\.0 GiB free; take the picture block by block"
    with pytest.raises(DeviceError, match=said.format("a fit of 40 Gaussians to 24 x 33 pixels")):
        fitted(small, "cuda", gaussians=40, steps=3)
    with pytest.raises(DeviceError, match=said.format("a fit of 80 Gaussians to 24 x 33 and 1 more pixels")):
        imagegs.fit_many([small, small], 40, steps=3, device="cuda")
    monkeypatch.setattr(torch, "tensor", refuse)
    with pytest.raises(DeviceError, match=said.format("an array of 0 x 2")):
        imagegs.render(imagegs.Gaussians2D(*np.zeros((2, 0, 2)), np.zeros(0), np.zeros((0, 3)), 5, 5), device="cuda")


def test_an_interrupted_fit_goes_on(small, tmp_path):
    config = make_config(SIZE, gaussians=40, steps=40, relocate_every=10)
    checkpoint = tmp_path / "fit.npz"
    seen = []

    def stop(progress):
        seen.append(progress.snapshot())
        if progress.step >= 20:
            raise KeyboardInterrupt

    with pytest.raises(fitting.Interrupted):
        fitting.run(small, config, device="cuda", on_step=stop, checkpoint=checkpoint)
    assert len(seen[-1]) == len(seen[-1].means)
    resumed = fitting.run(small, config, device="cuda", resume=checkpoint)
    whole = fitting.run(small, config, device="cuda")
    for name in NAMES:
        np.testing.assert_array_equal(getattr(resumed.gaussians, name), getattr(whole.gaussians, name))
    on_cpu = fitting.run(small, config, device="cpu", resume=checkpoint)
    assert on_cpu.psnr > whole.psnr - 1


def test_a_file_is_made_and_drawn(small, tmp_path: Path):
    path = tmp_path / "small.gsimg"
    encoded = imagegs.encode(small, gaussians=60, effort=1, device="cuda")
    path.write_bytes(encoded.data)
    assert encoded.psnr > imagegs.encode(small, gaussians=60, effort=1, device="cpu").psnr - 2  # seeds differ by 0.6
    ours = imagegs.decode(path, scale=2, device="cuda").pixels
    np.testing.assert_allclose(ours, imagegs.decode(path, scale=2).pixels, atol=1e-3)
    part = {"region": (3.5, 2.0, 11.0, 9.0)}
    gaussians = imagegs.load(path)
    np.testing.assert_allclose(
        imagegs.render(gaussians, 14, 20, device="auto", **part), imagegs.render(gaussians, 14, 20, **part), atol=1e-3
    )
    drawn = draw(gaussians, 14, 20, device="cuda", **part)
    assert drawn.shape == (3, 14, 20)
    np.testing.assert_allclose(drawn.numpy(), draw(gaussians, 14, 20, device="cpu", **part).numpy(), atol=1e-3)
    done = CliRunner().invoke(app, ["decode", str(path), "-o", str(tmp_path / "small.png"), "--device", "cuda"])
    assert done.exit_code == 0, done.output
    assert imagegs.read_image(tmp_path / "small.png").pixels.shape == small.shape


def test_a_gpu_that_is_not_there_is_said_before_the_fit(small):
    with pytest.raises(DeviceError, match=r"^device: expected a GPU that is there, found cuda:7 of one, cuda:0$"):
        imagegs.encode(small, device="cuda:7")
    for work in (lambda: imagegs.fit(small, 9, device="cuda:7"), lambda: imagegs.decode(b"", device="cuda:7")):
        with pytest.raises(DeviceError):
            work()
