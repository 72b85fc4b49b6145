"""Weights: the manifest, where files lie, downloads that break off, checks, and the hub."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import Loopback, serving
from weights_samples import TENSORS, as_safetensors, same, saved, written

from imagegs import ConfigError, DeviceError, WeightsError, pretrained
from imagegs.pretrained import download, manifest

SHARED = Path(__file__).parents[2] / "shared" / "weights"
needs_shared = pytest.mark.skipif(
    not (SHARED / "fastgaze.vxm").is_file(), reason="../shared with the weights is absent"
)


def entry(name: str, *files: dict[str, Any], hub: str | None = None) -> dict[str, Any]:
    facts = {"purpose": "a test", "license": None, "note": None, "origin": "http://127.0.0.1", "source": ""}
    return {"name": name, "hub": hub, "files": list(files), **facts}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder of weights; the environment and the caches of this machine are out of sight."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv(pretrained.ENVIRONMENT, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "weights"


@pytest.fixture
def use_manifest(monkeypatch) -> Callable[..., None]:
    def use(*entries: dict[str, Any]) -> None:
        monkeypatch.setattr(manifest, "_text", lambda: json.dumps({"version": 1, "models": entries}))

    return use


@pytest.fixture
def server(monkeypatch) -> Iterator[Loopback]:
    pytest.importorskip("gdown")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", 0)
    with serving() as running:
        yield running


# -- the manifest


def test_names_are_unique_and_files_of_a_folder_do_not_collide():
    models = pretrained.models()
    assert len({model.name for model in models}) == len(models)
    names = [
        name for model in models if not model.hub for file in model.files for name in (file.name, *file.alternatives)
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", pretrained.models(), ids=lambda model: model.name)
def test_entries_say_what_a_user_must_know(model):
    assert model.purpose
    assert model.origin.startswith("https://")
    assert model.license or "no licence" in model.note
    assert model.size is not None
    for file in model.files:
        assert (file.url is None) == (model.hub is not None)
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert Path(file.name).name == file.name


def test_emlnet_has_no_licence_and_lies_on_google_drive():
    parse_url = pytest.importorskip("gdown.parse_url").parse_url
    model = pretrained.model("emlnet")
    assert model.license is None
    assert "states no licence" in model.note
    assert [file.name for file in model.files] == ["res_imagenet.pth", "res_places.pth", "res_decoder.pth"]
    assert [parse_url(str(file.url)) for file in model.files] == [
        ("1-a494canr9qWKLdm-DUDMgbGwtlAJz71", True),
        ("18nRz0JSRICLqnLQtAvq01azZAsH0SEzS", True),
        ("1vwrkz3eX-AMtXQE08oivGMwS4lKB74sH", True),
    ]


@needs_shared
def test_fastgaze_is_the_shared_file_and_pinned_to_a_commit():
    (file,) = pretrained.model("fastgaze").files
    assert re.search(r"/[0-9a-f]{40}/bin/fastgaze\.vxm$", str(file.url))
    assert file.size == (SHARED / file.name).stat().st_size
    (check,) = pretrained.verify("fastgaze", SHARED)
    assert (check.problem, check.against) == ("", "manifest")


def test_transformers_of_the_manifest_are_those_of_timm():
    timm = pytest.importorskip("timm")
    listed = [model for model in pretrained.models() if model.name.startswith("vit_")]
    assert len(listed) >= 9
    for model in listed:
        settings = timm.get_pretrained_cfg(model.name)
        assert settings.hf_hub_id == model.hub
        assert settings.license == str(model.license).lower().replace(" ", "-")


def test_a_transformer_that_is_not_listed_is_found_through_timm():
    pytest.importorskip("timm")
    model = pretrained.model("vit_giant_patch14_reg4_dinov2.lvd142m")
    assert model.hub == "timm/vit_giant_patch14_reg4_dinov2.lvd142m"
    assert model.size is None


@pytest.mark.parametrize("name", ["emlnte", "", "vit_none", "vit_small_patch16_224.none", "vit_/x", "../emlnet"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"^weights: expected a name that 'imagegs weights list' shows, found '"):
        pretrained.model(name)


def test_a_near_name_is_suggested():
    with pytest.raises(ConfigError, match=r"found 'emlnte'; did you mean emlnet\?$"):
        pretrained.model("emlnte")


# -- places


def test_the_argument_comes_before_the_environment_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.ENVIRONMENT, str(tmp_path / "environment"))
    assert pretrained.weights_folder(tmp_path / "argument") == tmp_path / "argument"
    assert pretrained.weights_folder() == tmp_path / "environment"
    monkeypatch.setenv(pretrained.ENVIRONMENT, "~/weights")
    assert pretrained.weights_folder() == Path.home() / "weights"
    monkeypatch.setenv(pretrained.ENVIRONMENT, "")
    assert pretrained.weights_folder().parts[-2:] == ("imagegs", "weights")


def test_a_file_is_found_or_the_command_that_fetches_it_is_named(folder, monkeypatch):
    with pytest.raises(WeightsError, match="run: imagegs weights fetch emlnet --folder ") as failed:
        pretrained.file_of("emlnet", "res_places.pth", folder)
    assert str(failed.value).startswith(f"emlnet: expected res_places.pth in {folder}, found none")
    path = written(folder / "res_places.pth", b"x")
    assert pretrained.file_of("emlnet", "res_places.pth", folder) == path
    monkeypatch.setenv(pretrained.ENVIRONMENT, str(folder))
    assert pretrained.file_of("emlnet", "res_places.pth") == path
    with pytest.raises(WeightsError, match=r"run: imagegs weights fetch emlnet$"):
        pretrained.files_of("emlnet")
    with pytest.raises(ConfigError, match=r"^emlnet: expected one of res_imagenet\.pth, .*, found 'other\.pth'$"):
        pretrained.file_of("emlnet", "other.pth")


def test_an_accepted_other_file_is_found_where_the_first_is_absent(folder):
    other = written(folder / "fastgaze.npz", b"x")
    assert pretrained.file_of("fastgaze", "fastgaze.vxm", folder) == other
    first = written(folder / "fastgaze.vxm", b"x")
    assert pretrained.file_of("fastgaze", "fastgaze.vxm", folder) == first


def test_states(folder, use_manifest):
    use_manifest(entry("pair", {"name": "a.pth", "url": "http://x", "size": 3}, {"name": "b.pth", "url": "http://x"}))
    assert pretrained.state("pair", folder) == "absent"
    written(folder / ".new-b.pth12345678.part", b"half")
    assert pretrained.state("pair", folder) == "partial"
    written(folder / "b.pth", b"whole")
    assert pretrained.state("pair", folder) == "partial"
    written(folder / "a.pth", b"ab")
    assert pretrained.state("pair", folder) == "partial"
    written(folder / "a.pth", b"abc")
    assert pretrained.state("pair", folder) == "present"


# -- downloads


@pytest.fixture
def net(server, folder, use_manifest) -> bytes:
    """The contents of ``net.pth``, the one file of the model ``net``, whose checksum nobody published."""
    data = saved(TENSORS)
    server.contents["/net.pth"] = data
    use_manifest(entry("net", {"name": "net.pth", "url": f"{server.url}/net.pth"}))
    return data


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_download_is_whole_recorded_and_not_repeated(net, server, folder):
    seen = []
    (path,) = pretrained.fetch("net", folder, progress=lambda *progress: seen.append(progress))
    assert path.read_bytes() == net
    assert seen[-1] == ("net.pth", len(net), len(net))
    assert names(folder) == ["net.pth", "net.pth.json"]
    assert path.stat().st_mode & 0o666 == 0o600 | (folder.stat().st_mode & 0o666)
    (check,) = pretrained.verify("net", folder)
    assert (check.problem, check.against) == ("", "record")
    asked = len(server.requests)
    assert pretrained.fetch("net", folder) == [path]
    assert len(server.requests) == asked


def test_later_damage_is_found_and_repaired(net, server, folder):
    (path,) = pretrained.fetch("net", folder)
    path.write_bytes(net[:500] + b"!" + net[501:])
    (check,) = pretrained.verify("net", folder)
    assert re.match("expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}$", check.problem)
    path.write_bytes(net[:-1])
    (check,) = pretrained.verify("net", folder)
    assert check.problem == f"expected {len(net):,} bytes, found {len(net) - 1:,}"
    pretrained.fetch("net", folder)
    assert path.read_bytes() == net


def test_a_file_without_a_record_is_read_instead(net, folder):
    path = written(folder / "net.pth", net)
    (check,) = pretrained.verify("net", folder)
    assert (check.problem, check.against) == ("", "nothing")
    path.write_bytes(b"<html></html>")
    (check,) = pretrained.verify("net", folder)
    assert check.problem == "expected a file of weights, found a web page"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": "0", "size": 1}', '{"sha256": 3, "size": 1}', "\xff"])
def test_a_damaged_record_is_said(net, folder, text):
    (path,) = pretrained.fetch("net", folder)
    note = path.with_name("net.pth.json")
    note.write_text(text, encoding="latin-1")
    (check,) = pretrained.verify("net", folder)
    assert check.problem == f"{note}: expected the checksum noted at download, found a damaged file; remove it"


@pytest.fixture
def large(net, server) -> bytes:
    """As ``net``, with more bytes than gdown takes at once."""
    server.contents["/net.pth"] = saved({"weight": torch.arange(600_000.0)})
    return server.contents["/net.pth"]


CHUNK = 512 * 1024
"""What gdown takes at once; of a broken transfer it keeps whole chunks."""


def test_an_interrupted_download_goes_on_where_it_was(large, server, folder):
    server.cut = CHUNK + 1000
    with pytest.raises(
        WeightsError, match=rf"{CHUNK:,} bytes are kept, the same command goes on from there$"
    ) as failed:
        pretrained.fetch("net", folder)
    assert f"{server.url}/net.pth: cannot be downloaded to {folder / 'net.pth'}: the connection" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert not (folder / "net.pth").exists()
    assert pretrained.state("net", folder) == "partial"
    with pytest.raises(WeightsError, match=f"{2 * CHUNK:,} bytes are kept"):
        pretrained.fetch("net", folder)
    server.cut = None
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == large
    assert server.requests[-1] == ("GET", "/net.pth", f"bytes={2 * CHUNK}-")
    assert names(folder) == ["net.pth", "net.pth.json"]


def test_a_download_that_breaks_at_once_leaves_nothing(net, server, folder):
    server.cut = 100
    with pytest.raises(WeightsError, match=r"the connection failed \(ChunkedEncodingError\)$"):
        pretrained.fetch("net", folder)
    assert names(folder) == []
    assert pretrained.state("net", folder) == "absent"


def test_a_broken_transfer_is_taken_up_within_one_call(large, server, folder, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 9)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    server.cut = CHUNK + 1000
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == large
    assert [asked[2] for asked in server.requests] == [None, *(f"bytes={n * CHUNK}-" for n in range(1, 5))]


def test_a_server_that_cannot_go_on_in_the_middle_starts_anew(large, server, folder):
    server.ranges, server.cut = False, CHUNK + 1000
    with pytest.raises(WeightsError, match=f"{CHUNK:,} bytes are kept"):
        pretrained.fetch("net", folder)
    server.cut = None
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == large
    assert names(folder) == ["net.pth", "net.pth.json"]


def test_a_part_as_large_as_the_file_starts_anew(net, folder):
    written(folder / ".new-net.pthaaaaaaaa.part", net)
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == net


def test_a_whole_file_under_the_hidden_name_is_used(net, server, folder):
    written(folder / ".new-net.pth", net)
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == net


def test_the_larger_of_two_parts_is_used(net, server, folder):
    written(folder / ".new-net.pthaaaaaaaa.part", net[:1500])
    written(folder / ".new-net.pthbbbbbbbb.part", net[:700])
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == net
    assert server.requests[-1][2] == "bytes=1500-"


def test_ctrl_c_keeps_what_came(net, server, folder):
    def press(file: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained.fetch("net", folder, progress=press)
    assert not (folder / "net.pth").exists()
    assert pretrained.state("net", folder) == "partial"
    (path,) = pretrained.fetch("net", folder)
    assert path.read_bytes() == net


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_what_the_server_answers_is_said(net, server, folder, status):
    server.status = status
    with pytest.raises(WeightsError, match=rf"net\.pth: the server answers {status} "):
        pretrained.fetch("net", folder)
    assert names(folder) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<!doctype html><title>quota</title>", "expected a file of weights, found a web page"),
        (b"", "expected a file of weights, found an empty one"),
        (saved(TENSORS)[:3000], "expected a file of weights, found a damaged one or another kind"),
        (pickle.dumps(os.system), "expected tensors and plain values alone, found "),
    ],
    ids=["page", "empty", "cut", "attack"],
)
def test_what_is_no_weights_never_gets_the_name(net, server, folder, data, text):
    server.contents["/net.pth"] = data
    with pytest.raises(WeightsError, match=rf"/net\.pth: the download is refused: {text}"):
        pretrained.fetch("net", folder)
    assert names(folder) == []


def test_a_download_must_have_the_published_size_and_checksum(net, server, folder, use_manifest):
    facts = {"name": "net.pth", "url": f"{server.url}/net.pth"}
    digest = hashlib.sha256(net).hexdigest()
    use_manifest(entry("net", {**facts, "size": len(net) + 1, "sha256": digest}))
    with pytest.raises(WeightsError, match=f"refused: expected {len(net) + 1:,} bytes, found {len(net):,}$"):
        pretrained.fetch("net", folder)
    use_manifest(entry("net", {**facts, "size": len(net), "sha256": "0" * 64}))
    with pytest.raises(WeightsError, match=f"refused: expected sha256 {'0' * 64}, found {digest}$"):
        pretrained.fetch("net", folder)
    assert names(folder) == []
    use_manifest(entry("net", {**facts, "size": len(net), "sha256": digest}))
    (path,) = pretrained.fetch("net", folder)
    assert names(folder) == [path.name]
    (check,) = pretrained.verify("net", folder)
    assert (check.problem, check.against) == ("", "manifest")


def test_no_connection(folder, use_manifest, server):
    url = f"{server.url}/net.pth"
    server.server_close()
    use_manifest(entry("net", {"name": "net.pth", "url": url}))
    with pytest.raises(WeightsError, match=r"the connection failed \(ConnectionError\)$"):
        pretrained.fetch("net", folder)


def test_a_folder_that_cannot_be_made(net, tmp_path):
    place = written(tmp_path / "file", b"")
    with pytest.raises(WeightsError, match=r"file/net\.pth: cannot be written: "):
        pretrained.fetch("net", place)


def test_a_full_disk(net, folder, monkeypatch):
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gdown.download", full)
    with pytest.raises(WeightsError, match=r"cannot be downloaded to .*: no space left on device$"):
        pretrained.fetch("net", folder)


def test_two_downloads_of_one_file_do_not_mix(net, folder):
    filelock = pytest.importorskip("filelock")
    folder.mkdir()
    with (
        filelock.FileLock(folder / ".new-net.pth.lock"),
        pytest.raises(WeightsError, match=r"net\.pth: another process is downloading this file$"),
    ):
        pretrained.fetch("net", folder)


def test_gdown_is_named_where_it_is_absent(net, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DeviceError, match="expected gdown, which is not installed"):
        pretrained.fetch("net", folder)


@pytest.fixture
def drive(server, monkeypatch, use_manifest) -> Loopback:
    """Google Drive, as far as gdown sees it: its addresses lead to the loopback."""
    requests = pytest.importorskip("requests")
    get = requests.Session.get

    def redirected(self: Any, url: str, **options: Any) -> Any:
        assert url.startswith("https://drive.")
        return get(self, re.sub(r"^https://[^/]+", server.url, url), **options)

    monkeypatch.setattr(requests.Session, "get", redirected)
    use_manifest(entry("net", {"name": "net.pth", "url": "https://drive.google.com/uc?id=abc"}))
    return server


def test_google_drive_gives_large_files_after_a_question(drive, folder):
    form = (
        '<html><form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
        '<input type="hidden" name="id" value="abc"><input type="hidden" name="confirm" value="t"></form></html>'
    )
    drive.contents = {"/uc": form.encode(), "/download": saved(TENSORS)}
    drive.headers = {
        "/uc": {"Content-Type": "text/html"},
        "/download": {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="n"'},
    }
    (path,) = pretrained.fetch("net", folder)
    assert same(pretrained.load_state_dict(path), TENSORS)
    assert [asked[1] for asked in drive.requests] == ["/uc?id=abc", "/download?id=abc&confirm=t"]


def test_google_drive_may_refuse_for_its_quota(drive, folder):
    drive.contents = {"/uc": b'<html><p class="uc-error-subcaption">Too many users have viewed it.</p></html>'}
    drive.headers = {"/uc": {"Content-Type": "text/html"}}
    with pytest.raises(WeightsError, match="Google Drive shows a page in place of the file") as failed:
        pretrained.fetch("net", folder)
    assert "\n" not in str(failed.value)
    assert names(folder) == []


# -- the hub

COMMIT = "0123456789" * 4


@pytest.fixture
def hub(server, monkeypatch, use_manifest) -> Loopback:
    """The hub on loopback, with one model of one file of weights and one of settings."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    settings = b'{"model_type": "clipseg"}'
    blob = hashlib.sha1(b"blob %d\0" % len(settings) + settings, usedforsecurity=False).hexdigest()
    for file, data, name in (
        ("model.safetensors", as_safetensors(TENSORS), ""),
        ("config.json", settings, blob),
    ):
        path = f"/some/net/resolve/main/{file}"
        server.contents[path] = data
        server.headers[path] = {"ETag": f'"{name or hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
    use_manifest(entry("net", {"name": "model.safetensors"}, {"name": "config.json"}, hub="some/net"))
    return server


@pytest.mark.parametrize("chosen", [False, True], ids=["hub's cache", "folder"])
def test_the_hub_fills_its_own_cache_or_the_folder(hub, folder, tmp_path, chosen):
    place = folder if chosen else None
    assert pretrained.state("net", place) == "absent"
    seen = []
    paths = pretrained.fetch("net", place, progress=lambda *progress: seen.append(progress))
    assert paths == pretrained.files_of("net", place)
    assert all((folder if chosen else tmp_path / "hub") in path.parents for path in paths)
    assert same(pretrained.load_state_dict(paths[0]), TENSORS)
    assert ("config.json", 25, 25) in seen
    assert pretrained.state("net", place) == "present"
    asked = len(hub.requests)
    assert pretrained.fetch("net", place) == paths
    assert len(hub.requests) == asked


def test_damage_in_the_hubs_cache_is_found_and_repaired(hub, folder):
    weights, settings = pretrained.fetch("net")
    found = pretrained.verify("net")
    assert [(check.against, check.problem) for check in found] == [("hub", ""), ("hub", "")]
    for path, kind in ((weights, "sha256"), (settings, "git blob")):
        data = path.read_bytes()
        path.resolve().write_bytes(data[:-1] + b"!")
        problems = [check.problem for check in pretrained.verify("net") if check.problem]
        assert len(problems) == 1
        assert problems[0].startswith(f"expected {kind} ")
        pretrained.fetch("net")
        assert path.read_bytes() == data
    assert not any(check.problem for check in pretrained.verify("net"))


def test_files_of_the_hub_are_found_where_a_user_put_them(hub, folder):
    by_name = written(folder / "net" / "model.safetensors", as_safetensors(TENSORS))
    assert pretrained.file_of("net", "model.safetensors", folder) == by_name
    assert pretrained.state("net", folder) == "partial"
    direct = written(folder / "config.json", b"{}")
    assert pretrained.files_of("net", folder) == [by_name, direct]
    assert [check.against for check in pretrained.verify("net", folder)] == ["nothing", "nothing"]
    by_name.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"found an empty one; remove it, it hides what the hub's client downloads$"):
        pretrained.fetch("net", folder)


def test_an_absent_file_of_the_hub_names_the_command(folder):
    with pytest.raises(WeightsError, match=r"or the hub's cache, found none; run: imagegs weights fetch clipseg$"):
        pretrained.file_of("clipseg", "config.json")


def test_what_the_hub_answers_is_said(hub, folder):
    hub.contents.clear()
    with pytest.raises(WeightsError, match=r"^some/net: model\.safetensors cannot be downloaded: the hub answers 404$"):
        pretrained.fetch("net")
    assert pretrained.state("net") == "absent"


def test_the_hub_out_of_reach_is_said(hub, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        WeightsError, match=r"cannot be downloaded: the hub cannot be reached, or HF_HUB_OFFLINE is set$"
    ):
        pretrained.fetch("net")


def test_ctrl_c_leaves_no_half_file_in_the_hubs_cache(hub, folder, tmp_path):
    def press(file: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained.fetch("net", progress=press)
    assert pretrained.state("net") == "absent"
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.suffix == ".incomplete"]
    pretrained.fetch("net")
    assert pretrained.state("net") == "present"
