"""``imagegs weights``: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import Loopback, serving
from typer.testing import CliRunner

from imagegs import cli, pretrained
from imagegs.pretrained import download, manifest

NAMES = [model.name for model in pretrained.models()]


def run(*arguments: Any, status: int = 0) -> Any:
    done = CliRunner().invoke(cli.app, ["weights", *map(str, arguments)])
    assert done.exit_code == status, (done.output, done.exception)
    return done


def fail(monkeypatch, capsys, *arguments: Any, status: int = 1) -> tuple[str, str]:
    """What ``main`` prints, and the one line that it leaves on the error stream."""
    monkeypatch.setattr(sys, "argv", ["imagegs", "weights", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == status
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("imagegs: ")
    return shown.out, line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv(pretrained.ENVIRONMENT, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "weights"


@pytest.fixture
def server(monkeypatch) -> Iterator[Loopback]:
    """Serves the models ``net``, which has a note, and ``other``."""
    pytest.importorskip("gdown")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", 0)
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(100)}, buffer)
    facts = {"purpose": "a test", "license": None, "origin": "http://127.0.0.1", "source": "", "hub": None}
    with serving() as running:
        entries = []
        for name in ("net", "other"):
            running.contents[f"/{name}.pth"] = buffer.getvalue()
            file = {"name": f"{name}.pth", "url": f"{running.url}/{name}.pth"}
            entries.append({"name": name, "note": "ask first" if name == "net" else None, "files": [file], **facts})
        monkeypatch.setattr(manifest, "_text", lambda: json.dumps({"models": entries}))
        yield running


@pytest.fixture
def offline(monkeypatch) -> None:
    def refuse(*args: Any) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("command", ["list", "fetch", "verify", "path"])
def test_help(command):
    assert "Usage: " in run(command, "--help").stdout
    assert command in run("--help").stdout


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nsys.argv = ['imagegs', 'weights', 'fetch', '--help']\nfrom imagegs.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('LOADED', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED ")[2].split())
    assert not loaded & {"numpy", "torch", "gdown", "huggingface_hub", "requests", "safetensors", "timm", "rich"}


def test_list_says_what_a_user_must_know(folder, offline):
    text = run("list", "--folder", folder).stdout
    *lines, last = text.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == NAMES
    assert text.count(" absent ") == len(NAMES)
    emlnet = next(line for line in text.splitlines() if line.startswith("emlnet"))
    assert emlnet.split(maxsplit=2)[1:] == ["absent", "about 189 MB   no licence stated"]
    assert "https://github.com/SenJia/EML-NET-Saliency" in text
    assert last.startswith(f"folder: {folder}; ")


def test_list_as_json(folder, offline):
    folder.mkdir()
    (folder / "fastgaze.npz").write_bytes(b"x")
    found = json.loads(run("list", "--folder", folder, "--json").stdout)
    assert found["folder"] == str(folder)
    assert [model["name"] for model in found["models"]] == NAMES
    states = {model["name"]: model["state"] for model in found["models"]}
    assert (states["fastgaze"], states["emlnet"]) == ("present", "absent")
    fastgaze = next(model for model in found["models"] if model["name"] == "fastgaze")
    assert (fastgaze["license"], fastgaze["bytes"], fastgaze["bytes_are_exact"]) == ("Apache-2.0", 489616, True)


def test_fetch_verify_and_path(server, folder, monkeypatch):
    done = run("fetch", "net", "other", "net", "--folder", folder)
    assert done.stdout.splitlines() == [
        f"{folder / name}: as recorded at download, not published" for name in ("net.pth", "other.pth")
    ]
    assert done.stderr == "imagegs: note: net: ask first\n"
    assert len(server.requests) == 2
    server.server_close()
    monkeypatch.setenv(pretrained.ENVIRONMENT, str(folder))
    assert run("verify").stdout == done.stdout
    assert run("path").stdout == f"{folder}\n"
    assert run("path", "other").stdout == f"{folder / 'other.pth'}\n"
    assert " present " in run("list").stdout


def test_quiet_prints_nothing(server, folder):
    done = run("fetch", "net", "--folder", folder, "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    assert (folder / "net.pth").is_file()


def test_verify_fails_for_damage_and_for_what_is_absent(server, folder, monkeypatch, capsys):
    run("fetch", "net", "--folder", folder)
    with open(folder / "net.pth", "ab") as file:
        file.write(b"!")
    out, line = fail(monkeypatch, capsys, "verify", "--folder", folder)
    assert out.startswith(f"{folder / 'net.pth'}: expected ")
    assert line.endswith(f"expected whole files, found others; run: imagegs weights fetch net --folder {folder}")
    out, line = fail(monkeypatch, capsys, "verify", "other", "--json")
    assert json.loads(out) == {
        "other": [{"file": "other.pth", "path": None, "against": "nothing", "problem": "absent"}]
    }
    assert line.endswith("run: imagegs weights fetch other")


def test_verify_of_nothing(folder, offline):
    assert run("verify", "--folder", folder).stdout == f"nothing to verify in {folder}\n"
    assert json.loads(run("verify", "--folder", folder, "--json").stdout) == {}


def test_absent_weights_name_the_command(folder, monkeypatch, capsys, offline):
    _, line = fail(monkeypatch, capsys, "path", "emlnet", "--folder", folder)
    assert line.endswith(f"found none; run: imagegs weights fetch emlnet --folder {folder}")


@pytest.mark.parametrize("command", ["fetch", "verify", "path"])
def test_an_unknown_name_is_one_line(command, folder, monkeypatch, capsys, offline):
    _, line = fail(monkeypatch, capsys, command, "clipsek")
    assert line.endswith("found 'clipsek'; did you mean clipseg?")


def test_fetch_wants_a_name():
    assert "Missing argument 'NAME...'" in run("fetch", status=2).stderr


def test_a_failed_download_is_one_line(server, folder, monkeypatch, capsys):
    server.status = 404
    out, line = fail(monkeypatch, capsys, "fetch", "other", "--folder", folder)
    assert out == ""
    assert line.endswith(
        f"/other.pth: cannot be downloaded to {folder / 'other.pth'}: the server answers 404 Not Found"
    )


def test_ctrl_c_is_one_line_and_130(server, folder, monkeypatch, capsys):
    monkeypatch.setattr("gdown.download", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    out, line = fail(monkeypatch, capsys, "fetch", "other", "--folder", folder, status=130)
    assert (out, line) == ("", "imagegs: interrupted; the same command goes on with what is there")


def test_a_terminal_shows_how_far_a_file_is(server, folder, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    done = run("fetch", "other", "--folder", folder)
    assert "other.pth" in done.stderr
    assert "other.pth" not in run("fetch", "other", "--folder", folder, "--quiet").stderr
