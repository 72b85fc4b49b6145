"""What a text names: CLIPSeg, which finds the parts of a picture that a prompt describes.

Source: Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", arXiv 2112.10003, as transformers has it,
with the weights `CIDAS/clipseg-rd64-refined` (Apache-2.0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagegs import ConfigError, WeightsError
from imagegs.pretrained import file_of

from .maps import FloatArray, Predictor, resize
from .networks import required

NAME = "clipseg"
"""Entry of the weights' manifest."""
SURE = 0.5
"""Probability from which on a find counts as certain; the best find of a picture is scaled up to 1 from here on."""

_WEIGHT = re.compile(r"(?P<prompt>.*?)\s*:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)?")


def parse_prompts(text: str) -> dict[str, float]:
    """Prompts and their weights, as they are typed: ``"the face, the sign:0.5"``.

    Commas separate prompts; a colon and a number at the end of one is its weight, else it is 1. A colon elsewhere
    belongs to the prompt.

    Raises:
        ConfigError: there is no prompt, one is empty or occurs twice, or a weight is absent or not above 0.
    """
    found: dict[str, float] = {}
    for part in (piece.strip() for piece in text.split(",")):
        match = _WEIGHT.fullmatch(part)
        prompt, weight = (match["prompt"], match["weight"]) if match else (part, "1")
        if not prompt:
            raise ConfigError(f"prompt: expected texts separated by commas, found an empty one in {text!r}")
        if weight is None or not 0 < float(weight) < math.inf:
            raise ConfigError(f"prompt: expected a weight above 0 after the colon, found {part!r}")
        if prompt in found:
            raise ConfigError(f"prompt: expected each text once, found {prompt!r} again")
        found[prompt] = float(weight)
    return found


def load(prompts: Mapping[str, float] | str, folder: Path | None = None) -> Predictor:
    """CLIPSeg, asked for some texts.

    A prompt's map is the probability that a pixel belongs to it. Each is multiplied by its weight over the largest
    weight, and the largest value of any prompt stays: prompts do not dilute each other, and how sure they are remains
    comparable. Only then is the whole map divided by its maximum or by 0.5, whichever is more: so a certain find
    reaches 1, while a picture in which nothing answers to the prompts stays near 0 rather than having its noise
    stretched. The picture is squeezed to the square that the network was made for and the map stretched back.

    Args:
        prompts: texts and their weights above 0, or one text for `parse_prompts`.
        folder: of the weights, with the published files (`config.json`, `model.safetensors`, those of the tokenizer and
            the preprocessor) in it, in a sub-folder ``clipseg`` or in the layout of the hub's cache; by default the
            environment's or the user's, then the hub's own cache. No server is asked.

    Returns:
        The predictor: [3, H, W] in [0, 1] -> [H, W] in [0, 1].

    Raises:
        ConfigError: no prompts, weights that are not above 0, or a prompt that is too long for the network.
        DeviceError: transformers is not installed.
        WeightsError: the weights are absent, damaged or of another network.
    """
    asked = parse_prompts(prompts) if isinstance(prompts, str) else dict(prompts)
    if not asked or not all(text.strip() and 0 < weight < math.inf for text, weight in asked.items()):
        raise ConfigError(f"prompt: expected texts with weights above 0, found {asked}")
    processor, model = _pretrained(folder)
    with torch.inference_mode():
        embeddings = [_embedded(text, processor, model) for text in asked]
    shares = [weight / max(asked.values()) for weight in asked.values()]

    def predict(rgb: FloatArray) -> FloatArray:
        image = Image.fromarray(np.rint(255 * np.clip(np.moveaxis(rgb, 0, -1), 0, 1)).astype(np.uint8))
        with torch.inference_mode():
            pixels = processor(images=image, return_tensors="pt")["pixel_values"]
            found = _probabilities(model, pixels, embeddings)
            weighted = [share * values for share, values in zip(shares, found, strict=True)]
            best = torch.stack(weighted).amax(0).numpy().astype(np.float32)
        scaled = best / np.float32(max(float(best.max()), SURE))
        return np.clip(resize(scaled, (rgb.shape[1], rgb.shape[2])), 0, 1)

    return predict


def _embedded(text: str, processor: Any, model: Any) -> Tensor:
    """A prompt as the decoder is conditioned on it [1, D]."""
    tokens = processor(text=[text], return_tensors="pt")
    count, most = tokens["input_ids"].shape[1], model.config.text_config.max_position_embeddings
    if count > most:
        raise ConfigError(f"prompt: expected at most {most} tokens, found {count} in {text[:40]!r}")
    found: Tensor = model.get_conditional_embeddings(batch_size=1, **tokens)
    return found


def _probabilities(model: Any, pixels: Tensor, embeddings: list[Tensor]) -> list[Tensor]:
    """Of each pixel of the working square [S, S] to be what each prompt names."""
    seen = model(pixel_values=pixels, conditional_embeddings=embeddings[0], output_hidden_states=True)
    # the encoder takes a hundred times as long as the decoder and is the same for all prompts
    states = seen.vision_model_output.hidden_states
    activations = [states[layer + 1] for layer in model.extract_layers]
    logits = [model.decoder(activations, embedding).logits for embedding in embeddings]
    return [values.reshape(values.shape[-2:]).sigmoid() for values in logits]


def _pretrained(folder: Path | None) -> tuple[Any, Any]:
    transformers = required("transformers")
    place = file_of(NAME, "config.json", folder).parent
    file_of(NAME, "model.safetensors", folder)
    try:
        with _quiet(transformers.utils.logging):
            # classes are named here, since settings that older versions saved name theirs in other ways
            processor = transformers.CLIPSegProcessor(
                transformers.ViTImageProcessor.from_pretrained(place, local_files_only=True),
                transformers.CLIPTokenizer.from_pretrained(place, local_files_only=True),
            )
            # pickles are never read
            model, report = transformers.CLIPSegForImageSegmentation.from_pretrained(
                place, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # transformers names no common class for what absent or damaged files make it raise
        raise WeightsError(
            f"{place}: expected the files of CLIPSeg, found others or damaged ones; run: imagegs weights verify {NAME}"
        ) from error
    _check(str(place), processor, model, sorted(report["missing_keys"]))
    return processor, model.eval().requires_grad_(False)


def _check(where: str, processor: Any, model: Any, missing: list[str]) -> None:
    """Refuse what transformers lets pass: weights that it would make up, and a tokenizer without its words."""
    if missing:
        raise WeightsError(f"{where}: expected the weights of CLIPSeg, {len(missing)} missing: {missing[0]}")
    known, words = len(processor.tokenizer), model.config.text_config.vocab_size
    if known != words:
        raise WeightsError(f"{where}: expected a tokenizer of {words:,} tokens, found {known:,}")
    broken = [name for name, value in model.named_parameters() if not bool(torch.isfinite(value).all())]
    if broken:
        raise WeightsError(f"{where}: expected finite numbers, {len(broken)} tensors hold others: {broken[0]}")


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """No bars or notes of transformers on the terminal; its settings are afterwards as before."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
