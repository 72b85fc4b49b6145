"""Choosing a device: what is said where a GPU cannot be used; and the check that a GPU passes before it is used."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from cuda_host import HostLauncher, needs_compiler, pretended_gpu

import imagegs
from imagegs import devices
from imagegs.errors import CompileError, DeviceError, ImageGSWarning
from imagegs.kernels import cuda, native

gpu = pretended_gpu


def test_what_auto_means_can_be_said(monkeypatch, gpu):
    monkeypatch.setattr(devices, "open_gpu", lambda ordinal: gpu)
    for said, meant in (("cpu", "cpu"), ("cuda:1", "cuda:1"), ("", "cuda:0")):
        monkeypatch.setenv(devices.ENVIRONMENT, said)
        assert devices.resolve("auto") == meant
        assert devices.resolve("cuda:2") == "cuda:2"
    monkeypatch.setenv(devices.ENVIRONMENT, "abacus")
    with pytest.raises(DeviceError, match=r"found 'abacus'$"):
        devices.resolve("auto")


@pytest.mark.parametrize("name", ["abacus", "cuda:", "cuda:x", "cuda0", "CPU", "cuda:-1", ""])
def test_names_of_devices(name):
    with pytest.raises(DeviceError, match=r"^device: expected auto, cpu, cuda or cuda:N, found "):
        devices.resolve(name)


def test_without_a_driver(monkeypatch):
    monkeypatch.delenv(devices.ENVIRONMENT)
    monkeypatch.setattr(devices, "driver_is_there", lambda: False)
    assert devices.resolve("cpu") == devices.resolve("auto") == "cpu"
    with pytest.raises(
        DeviceError, match=r"^device: expected an NVIDIA driver for cuda:2, found none; use the device cpu$"
    ):
        devices.resolve("cuda:2")


def test_a_build_of_torch_without_cuda(monkeypatch, gpu):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match=r"^device: expected a build of PyTorch with CUDA, found "):
        devices.resolve("cuda")


def test_a_driver_that_is_too_old(monkeypatch, gpu):
    def refuse():
        raise RuntimeError("The NVIDIA driver on your system is too old\n(found version 11040).")

    monkeypatch.setattr(torch.cuda, "init", refuse)
    with pytest.raises(
        DeviceError, match=r"^device: cuda:0 cannot be used: The NVIDIA driver .* too old \(found version"
    ):
        devices.resolve("cuda")


@pytest.mark.parametrize(
    ("count", "said"), [(0, "cuda:3 of no GPU"), (1, "cuda:3 of one, cuda:0"), (2, "cuda:3 of 2, cuda:0 to cuda:1")]
)
def test_a_gpu_that_is_not_there(monkeypatch, gpu, count, said):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(DeviceError, match=f"^device: expected a GPU that is there, found {said}$"):
        devices.resolve("cuda:3")


@needs_compiler
@pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
def test_a_gpu_that_draws_as_the_cpu_does_is_used(gpu):
    assert devices.resolve("cuda") == devices.resolve("auto") == devices.resolve("cuda:0") == "cuda:0"
    assert devices.open_gpu(0) is gpu


class Wrong(HostLauncher):
    """Runs all kernels but one."""

    def launch(self, name, kernel, blocks, arguments, **keywords):
        if kernel != "finish":
            super().launch(name, kernel, blocks, arguments, **keywords)


@needs_compiler
@pytest.mark.skipif(not native.available(), reason="the compiled kernels are not built")
def test_a_gpu_that_draws_something_else_is_not_used(monkeypatch, gpu):
    monkeypatch.setattr(torch, "empty", lambda shape, **keywords: torch.full(shape, 0, **keywords))
    monkeypatch.setattr(gpu, "_launcher", Wrong())
    with pytest.raises(
        DeviceError, match=r"^device: cpu draws another picture than the CPU, which differs by 1.0e\+00"
    ):
        devices.resolve("cuda")
    with pytest.warns(ImageGSWarning, match="^the CPU does the work: device: cpu draws another picture"):
        assert devices.resolve("auto") == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert devices.resolve("auto") == "cpu"  # said once


@pytest.mark.parametrize(
    "failure",
    [
        lambda: CompileError("x.cu(1): error: no", "x.cu", ("sm_90",)),
        lambda: DeviceError("device: expected the package cuda-core, found none"),
        lambda: RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore"),
    ],
)
def test_auto_falls_back_to_the_cpu(monkeypatch, gpu, failure):
    def fail(*arguments, **keywords):
        raise failure()

    monkeypatch.setattr(gpu, "run", fail)
    with pytest.raises(DeviceError):
        devices.resolve("cuda")
    if native.available():
        with pytest.warns(ImageGSWarning, match="^the CPU does the work: "):
            assert devices.resolve("auto") == "cpu"


def test_too_little_memory(monkeypatch):
    device = cuda.Device(torch.device("cpu"), HostLauncher())

    def refuse(*shape, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def noted(self, kernel, background, *arguments):
        monkeypatch.setattr(torch, "empty", refuse)

    monkeypatch.setattr(cuda, "free_memory", lambda device: 3 << 30)
    rasterizer = cuda.CudaRasterizer(device)
    monkeypatch.setattr(device, "_launcher", type("Nothing", (), {"launch": lambda *a, **k: None})())
    monkeypatch.setattr(cuda.CudaRasterizer, "_draw", noted)
    none = [torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 3)]
    rasterizer.prepare(*none, (20_000, 30_000))
    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(
        DeviceError, match=r"needs about 29\.1 GiB for 0 Gaussians on 20,000 x 30,000 pixels, found 3\.0 GiB"
    ):
        rasterizer.forward(torch.zeros(3))


def test_a_device_is_refused_before_any_work():
    for device in ("abacus", "cuda:x"):
        with pytest.raises(DeviceError, match=f"^device: expected auto, cpu, cuda or cuda:N, found '{device}'"):
            imagegs.fit(np.zeros((3, 8, 8)), 10, device=device)
