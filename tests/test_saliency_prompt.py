"""CLIPSeg: prompts as they are typed, and a tiny random network in the published layout, loaded by the real code."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from imagegs import ConfigError, DeviceError, WeightsError

transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="the optional package safetensors is not installed")

from imagegs.apps.saliency import prompt  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = [START, END, *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "th", "the</w>"]
# settings of the preprocessor as different versions of transformers saved them
PREPROCESSORS = {
    "new": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 64, "width": 64},
        "rescale_factor": 1 / 255,
    },
    "between": {"image_processor_type": "ViTFeatureExtractor", "size": {"height": 64, "width": 64}},
    "old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 64},
}


def tiny_config() -> Any:
    return transformers.CLIPSegConfig(
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 20,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
        },
        projection_dim=24,
        extract_layers=[1, 2, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )


def write_settings(folder: Path, preprocessor: str = "new") -> None:
    """The published files beside the network's own."""
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    )
    common = {"do_normalize": True, "do_resize": True, "resample": 2, "processor_class": "CLIPSegProcessor"}
    means = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(common | means | PREPROCESSORS[preprocessor]))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "clipseg"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = transformers.CLIPSegForImageSegmentation(tiny_config())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    write_settings(folder)
    assert sorted(path.name for path in folder.glob("*model*")) == ["model.safetensors"]
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "clipseg"))


def picture(height: int, width: int) -> npt.NDArray[np.float32]:
    values = np.random.default_rng(3).integers(0, 256, (3, height, width))
    return values.astype(np.float32) / np.float32(255)


def by_transformers(folder: Path, rgb: npt.NDArray[np.float32], prompts: dict[str, float]) -> npt.NDArray[np.float32]:
    """Probabilities [prompts, S, S] of prompts asked together, as the library documents it, times their weights."""
    processor = transformers.CLIPSegProcessor.from_pretrained(folder)
    model = transformers.CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    image = Image.fromarray(np.rint(255 * np.moveaxis(rgb, 0, -1)).astype(np.uint8))
    inputs = processor(text=list(prompts), images=[image] * len(prompts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**inputs).logits.sigmoid().numpy()
    return np.asarray(found * np.array(list(prompts.values()), np.float32)[:, None, None])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the face", {"the face": 1}),
        ("the face, the sign:0.5", {"the face": 1, "the sign": 0.5}),
        ("  a dog : 2 ,cat:.25,bird:1e-1", {"a dog": 2, "cat": 0.25, "bird": 0.1}),
        ("sign: exit here", {"sign: exit here": 1}),
        ("clock at 12:30:2", {"clock at 12:30": 2}),
        ("nan:nan", {"nan:nan": 1}),
        ("größe:3", {"größe": 3}),
    ],
)
def test_prompts_and_weights(text, expected):
    assert prompt.parse_prompts(text) == expected
    assert list(prompt.parse_prompts(text)) == list(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected texts separated by commas, found an empty one in ''"),
        ("face,,sign", "found an empty one in 'face,,sign'"),
        ("face, ", "found an empty one"),
        (":3", "found an empty one"),
        ("face:", "expected a weight above 0 after the colon, found 'face:'"),
        ("face:0", "expected a weight above 0 after the colon, found 'face:0'"),
        ("face:-1", "expected a weight above 0"),
        ("face:1e999", "expected a weight above 0"),
        ("face, sign, face:2", "expected each text once, found 'face' again"),
    ],
)
def test_prompts_that_make_no_sense(text, message):
    with pytest.raises(ConfigError, match=message):
        prompt.parse_prompts(text)


@pytest.mark.parametrize("asked", [{}, {"face": 0.0}, {"face": float("nan")}, {" ": 1.0}])
def test_weights_given_as_numbers_are_checked(asked, published):
    with pytest.raises(ConfigError, match="prompt: expected texts with weights above 0"):
        prompt.load(asked, published)


@pytest.mark.parametrize("preprocessor", PREPROCESSORS)
def test_the_published_files_load(published, copy, preprocessor):
    write_settings(copy, preprocessor)
    rgb = picture(50, 80)
    expected = prompt.load("the face", published.parent)(rgb)
    assert np.abs(prompt.load("the face", copy)(rgb) - expected).max() < 1e-6


@pytest.mark.parametrize("asked", [{"the face": 1.0}, {"the face": 2.0, "a": 0.5, "the sign at the end": 1.0}])
def test_the_map_is_the_best_of_the_weighted_probabilities(published, asked):
    rgb = picture(64, 64)
    weighted = by_transformers(published, rgb, asked).max(axis=0) / max(asked.values())
    expected = weighted / max(weighted.max(), 0.5)
    found = prompt.load(asked, published)(rgb)
    assert np.ptp(expected) > 0.05
    assert np.abs(found - expected).max() < 1e-5


def test_text_and_numbers_say_the_same(published):
    rgb = picture(40, 50)
    found = prompt.load("the face, a sign:0.5", published)(rgb)
    assert np.array_equal(found, prompt.load({"the face": 1, "a sign": 0.5}, published)(rgb))
    assert np.array_equal(found, prompt.load({"the face": 4, "a sign": 2}, published)(rgb))


@pytest.mark.parametrize(("bias", "lowest", "highest"), [(-6.0, 0, 0.05), (6.0, 0.95, 1)])
def test_a_picture_without_the_thing_is_not_stretched(copy, bias, lowest, highest):
    state = safetensors.load_file(copy / "model.safetensors")
    last = "decoder.transposed_convolution.4"
    # the last layer gives nearly one value everywhere
    state[f"{last}.weight"] = 0.01 * state[f"{last}.weight"]
    state[f"{last}.bias"] = torch.full_like(state[f"{last}.bias"], bias)
    safetensors.save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    found = prompt.load("the face", copy)(picture(50, 70))
    assert lowest <= found.min() <= found.max() <= highest


def test_any_size_of_picture(published):
    before = torch.get_rng_state()
    predict = prompt.load("the face, a sign:0.5", published)
    assert torch.equal(before, torch.get_rng_state())
    for height, width in ((1, 1), (1, 90), (300, 2), (33, 47), (3, 3), (250, 300)):
        found = predict(picture(height, width))
        assert found.shape == (height, width)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1
        assert np.array_equal(found, predict(picture(height, width)))


def test_nothing_is_said_on_the_terminal(published, capfd):
    bars = transformers.utils.logging.is_progress_bar_enabled()
    level = transformers.utils.logging.get_verbosity()
    prompt.load("the face", published)(picture(10, 12))
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled() is bars
    assert transformers.utils.logging.get_verbosity() == level


def test_a_prompt_that_is_too_long(published):
    with pytest.raises(ConfigError, match="prompt: expected at most 20 tokens, found 42 in 'abababab"):
        prompt.load("ab" * 20, published)


def test_absent_weights_name_the_command(tmp_path, monkeypatch):
    # the hub's own cache may well have them
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names, **options: None)
    with pytest.raises(WeightsError, match="imagegs weights fetch clipseg"):
        prompt.load("the face", tmp_path)


def test_damaged_files_are_refused(copy, published):
    def refused(message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            prompt.load("the face", copy)
        for path in published.iterdir():
            shutil.copy(path, copy / path.name)

    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused(
        r"clipseg: expected the files of CLIPSeg, found others or damaged ones; run: imagegs weights verify clipseg$"
    )
    state = safetensors.load_file(weights)
    del state["decoder.film_mul.weight"]
    safetensors.save_file(state, weights, metadata={"format": "pt"})
    refused(r"expected the weights of CLIPSeg, 1 missing: decoder\.film_mul\.weight$")
    state["decoder.film_mul.weight"] = torch.zeros(3, 3)
    safetensors.save_file(state, weights, metadata={"format": "pt"})
    refused("expected the files of CLIPSeg, found others or damaged ones")
    state = safetensors.load_file(weights)
    state["decoder.film_mul.weight"][0, 0] = torch.inf
    safetensors.save_file(state, weights, metadata={"format": "pt"})
    refused(r"expected finite numbers, 1 tensors hold others: decoder\.film_mul\.weight$")
    (copy / "vocab.json").unlink()
    (copy / "merges.txt").unlink()
    refused(r"expected a tokenizer of 56 tokens, found 2$|expected the files of CLIPSeg")
    (copy / "config.json").write_text("{")
    refused("expected the files of CLIPSeg, found others or damaged ones")


def test_pickles_are_never_read(copy, tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"logit_scale": Trap()}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").rename(copy / "elsewhere")
    with pytest.raises(WeightsError, match="clipseg"):
        prompt.load("the face", copy)
    (copy / "model.safetensors").write_bytes((copy / "pytorch_model.bin").read_bytes())
    with pytest.raises(WeightsError, match="expected the files of CLIPSeg"):
        prompt.load("the face", copy)
    assert not (tmp_path / "sprung").exists()


def test_without_transformers(published, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = r"expected transformers, which is not installed; pip install 'imagegs\[saliency\]'"
    with pytest.raises(DeviceError, match=message):
        prompt.load("the face", published)
