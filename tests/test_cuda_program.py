"""CUDA sources to machine code: every kernel for every architecture, the cache, and what is said when it fails."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_host import kernels_of

from imagegs.errors import CompileError, DeviceError
from imagegs.kernels import cuda_program
from imagegs.kernels.cuda_program import Unit

SMALL = Unit("adam", "sm_90")


@pytest.fixture
def _nvrtc():
    """NVRTC, which needs no driver; skipped where it is not there."""
    pytest.importorskip("cuda.core", reason="needs cuda-core, the extra imagegs[cuda]")
    try:
        cuda_program.compiler_version()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _loaded_afresh():
    yield
    cuda_program._cuda.cache_clear()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv(cuda_program.ENVIRONMENT, str(folder))
    return folder


def drawing(channels: int, blend: int, top_k: int) -> tuple[tuple[str, int], ...]:
    return ("IMAGEGS_CHANNELS", channels), ("IMAGEGS_BLEND", blend), ("IMAGEGS_TOP_K", top_k)


@pytest.mark.usefixtures("_nvrtc")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_120"])
@pytest.mark.parametrize(
    ("name", "macros"),
    [
        ("tiles", ()),
        ("gradients", ()),
        ("ssim", ()),
        ("adam", ()),
        ("render", drawing(3, 0, 1)),
        ("render", drawing(32, 1, 32)),
        ("render", drawing(1, 2, 1)),
    ],
)
def test_every_kernel_compiles(name, macros, architecture):
    if int(architecture[3:]) not in cuda_program.known_architectures():
        pytest.skip(f"this NVRTC does not know {architecture}")
    code, log = cuda_program.compile_unit(Unit(name, architecture, macros))
    assert code[:4] == b"\x7fELF"
    found = cuda_program.resources(log)
    assert set(found) == set(kernels_of(name))
    for kernel, taken in found.items():
        assert taken.spilled <= 32, kernel  # bytes of a thread, which ptxas may trade for more blocks at a time
        assert 0 < taken.registers * cuda_program.BLOCK <= 65536, kernel
        assert taken.shared <= 48 << 10, kernel
    assert "warning" not in log


@pytest.mark.gpu
@pytest.mark.usefixtures("_nvrtc")
def test_newer_devices_get_ptx():
    from cuda_gpu import skip_without_driver

    skip_without_driver()  # cuda-core asks it which versions of PTX it takes
    code, _ = cuda_program.compile_unit(Unit("adam", f"compute_{cuda_program.known_architectures()[-1]}"))
    assert b".visible .entry apply_local" in code


@pytest.mark.usefixtures("_nvrtc")
def test_a_source_that_is_refused(monkeypatch):
    wrong = '#line 1 "adam.cu"\nextern "C" __global__ void adam() { nothing(); }\n'
    monkeypatch.setattr(cuda_program, "source_of", lambda name: wrong)
    with pytest.raises(
        CompileError, match=r"^adam\.cu: cannot be compiled for sm_90, A=1: adam\.cu\(1\): error"
    ) as caught:
        cuda_program.compile_unit(Unit("adam", "sm_90", (("A", 1),)))
    assert "nothing" in caught.value.log
    assert "\n" not in str(caught.value)
    assert caught.value.name == "adam.cu"


def test_headers_are_taken_in_once_and_lines_keep_their_numbers():
    source = cuda_program.source_of("render")
    assert "#include" not in source.replace("#include <cmath>", "")
    assert source.count("struct Splat {") == source.count("struct TileGrid {") == 1
    lines = source.splitlines()
    at = next(i for i, line in enumerate(lines) if line == "using namespace imagegs;")
    marker = max(i for i, line in enumerate(lines[:at]) if line.startswith("#line"))
    assert lines[marker].endswith('"render.cu"')
    own = cuda_program.files("imagegs").joinpath("kernels", "render.cu").read_text(encoding="utf-8").splitlines()
    assert own[int(lines[marker].split()[1]) - 1 + at - marker - 1] == "using namespace imagegs;"


@pytest.mark.usefixtures("_nvrtc")
def test_compiled_once_and_kept(cache, monkeypatch):
    code = cuda_program.code_of(SMALL)
    (kept,) = cache.iterdir()
    assert kept.name.startswith("adam-")
    assert kept.suffix == ".cubin"

    def refuse(unit: Unit) -> tuple[bytes, str]:
        raise AssertionError("compiled again")

    monkeypatch.setattr(cuda_program, "compile_unit", refuse)
    assert cuda_program.code_of(SMALL) == code
    for other in (Unit("adam", "sm_80"), Unit("tiles", "sm_90"), Unit("adam", "sm_90", (("A", 1),))):
        with pytest.raises(AssertionError, match="compiled again"):
            cuda_program.code_of(other)


@pytest.mark.usefixtures("_nvrtc")
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b[:99] + b"?" + b[100:]]
)
def test_a_damaged_file_is_compiled_again(cache, damage):
    code = cuda_program.code_of(SMALL)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert cuda_program.code_of(SMALL) == code
    assert kept.read_bytes() == whole
    assert list(cache.iterdir()) == [kept]


def test_the_key_follows_source_options_and_compiler(monkeypatch):
    monkeypatch.setattr(cuda_program, "compiler_version", lambda: (13, 2))
    keys = {cuda_program.key_of(unit) for unit in (SMALL, Unit("adam", "sm_80"), Unit("adam", "compute_90"))}
    keys.add(cuda_program.key_of(Unit("adam", "sm_90", (("A", 1),))))
    monkeypatch.setattr(cuda_program, "compiler_version", lambda: (13, 3))
    keys.add(cuda_program.key_of(SMALL))
    monkeypatch.setattr(cuda_program, "source_of", lambda name: "// other")
    keys.add(cuda_program.key_of(SMALL))
    assert len(keys) == 6


@pytest.mark.usefixtures("_nvrtc")
def test_a_cache_that_cannot_be_written_is_no_error(cache):
    cache.write_text("a file where the folder should be")
    assert cuda_program.code_of(SMALL)[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [
        ((7, 5), "sm_75"),
        ((8, 6), "sm_86"),
        ((8, 9), "sm_86"),
        ((9, 0), "sm_90"),
        ((12, 1), "sm_120"),
        ((13, 0), "compute_120"),
    ],
)
def test_architectures(monkeypatch, capability, wanted):
    monkeypatch.setattr(cuda_program, "known_architectures", lambda: (75, 80, 86, 90, 100, 120))
    assert cuda_program.architecture_for(capability) == wanted


def test_a_device_that_is_too_old(monkeypatch):
    monkeypatch.setattr(cuda_program, "known_architectures", lambda: (75, 80, 86, 90, 100, 120))
    with pytest.raises(DeviceError, match=r"^device: expected a GPU of compute capability 7.5 or newer, found 6.1$"):
        cuda_program.architecture_for((6, 1))


def test_without_cuda_core(monkeypatch):
    def absent(name: str):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    cuda_program._cuda.cache_clear()
    with pytest.raises(DeviceError, match=r"^device: expected the package cuda-core, found none; run: pip install "):
        cuda_program.compile_unit(SMALL)


def test_without_nvrtc(monkeypatch):
    def missing() -> None:
        raise RuntimeError("libnvrtc.so is not there\nand more")

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(nvrtcVersion=missing))
    cuda_program._cuda.cache_clear()
    with pytest.raises(DeviceError, match=r"^device: expected NVRTC, .* found none: libnvrtc.so is not there$"):
        cuda_program.compile_unit(SMALL)


class FakeCore:
    """Notes what is loaded and launched."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.loaded, self.launched, self.failure = [], [], failure
        self.ObjectCode = SimpleNamespace(from_cubin=self._load, from_ptx=self._load)

    def Device(self, ordinal):
        return SimpleNamespace(set_current=lambda: self.loaded.append(ordinal))

    def LaunchConfig(self, grid, block):
        return grid, block

    def _load(self, code, name):
        self.loaded.append((name, code))
        return SimpleNamespace(get_kernel=lambda kernel: kernel)

    def launch(self, stream, config, kernel, *arguments):
        if self.failure is not None:
            raise self.failure
        self.launched.append((stream.__cuda_stream__(), config, kernel, arguments))


@pytest.fixture
def _known(monkeypatch):
    monkeypatch.setattr(cuda_program, "known_architectures", lambda: (75, 90))
    monkeypatch.setattr(cuda_program, "code_of", lambda unit: repr(unit.macros).encode())


@pytest.mark.usefixtures("_known")
def test_kernels_are_loaded_once_and_launched_in_the_stream(monkeypatch):
    core = FakeCore()
    monkeypatch.setattr(cuda_program, "_cuda", lambda: (core, None))
    launcher = cuda_program.Launcher(1, (9, 0))
    arguments = (np.int64(5), np.uintp(64))
    for stream in (0, 7):
        launcher.launch("adam", "apply_local", 3, arguments, stream=stream)
    launcher.launch("adam", "adam", 2, arguments)
    launcher.launch("adam", "adam", 2, arguments, macros=(("A", 1),))
    launcher.launch("tiles", "project", 0, arguments)
    assert core.loaded == [1, ("adam", b"()"), 1, ("adam", b"(('A', 1),)")]
    assert [launch[:3] for launch in core.launched] == [
        ((0, 0), (3, 256), "apply_local"),
        ((0, 7), (3, 256), "apply_local"),
        ((0, 0), (2, 256), "adam"),
        ((0, 0), (2, 256), "adam"),
    ]
    assert core.launched[0][3] == arguments


@pytest.mark.usefixtures("_known")
def test_a_launch_that_fails_is_one_line(monkeypatch):
    monkeypatch.setattr(cuda_program, "_cuda", lambda: (FakeCore(RuntimeError("CUDA_ERROR_X: bad\nmore")), None))
    with pytest.raises(DeviceError, match=r"^device: cuda:1 cannot run adam: CUDA_ERROR_X: bad$"):
        cuda_program.Launcher(1, (9, 0)).launch("adam", "adam", 1, ())
