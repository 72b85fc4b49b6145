"""Gaussians <-> the bytes of a ``.gsimg`` file (docs/format.md); NumPy only, no torch.

```
quantization   Gaussians2D <-> Symbols on a Grid (quantizer 0)
packing        Symbols <-> payload (coding 0: fixed width)
blocks         parts of the canvas, and how far Gaussians reach beyond them
fields         numbers <-> bytes
table          the chunk table, whole or in pages <-> bytes
format         header, metadata, table, payloads <-> the bytes of a file
codings        which quantizer and coding a number means
stream         Decoder: a file read as its bytes come
storage        all of them together: write_file and parse, save and load
```
"""

from .blocks import Blocks, reach
from .format import VERSION, Header, Payload, round_background
from .quantization import BitWidths, Grid, Symbols, choose_grid, dequantize, quantize, round_to_grid
from .storage import (
    GsimgFile,
    load,
    parse,
    read_file,
    save,
    split_blocks,
    with_psnrs,
    write_file,
    write_levels,
)
from .stream import Decoder
from .table import Chunk

__all__ = [
    "VERSION",
    "BitWidths",
    "Blocks",
    "Chunk",
    "Decoder",
    "Grid",
    "GsimgFile",
    "Header",
    "Payload",
    "Symbols",
    "choose_grid",
    "dequantize",
    "load",
    "parse",
    "quantize",
    "reach",
    "read_file",
    "round_background",
    "round_to_grid",
    "save",
    "split_blocks",
    "with_psnrs",
    "write_file",
    "write_levels",
]
