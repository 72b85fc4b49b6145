"""Gaussians <-> the bytes of a ``.gsimg`` file (docs/format.md); NumPy only, no torch.

```
quantization   Gaussians2D <-> Symbols on a Grid
packing        Symbols <-> payload (coding 0: fixed width)
format         header, metadata, payloads <-> the bytes of a file
storage        all of them together: write_file and parse, save and load
```
"""

from .format import VERSION, Chunk
from .quantization import BitWidths, Grid, Symbols, choose_grid, dequantize, quantize, round_to_grid
from .storage import GsimgFile, load, parse, read_file, save, write_file

__all__ = [
    "VERSION",
    "BitWidths",
    "Chunk",
    "Grid",
    "GsimgFile",
    "Symbols",
    "choose_grid",
    "dequantize",
    "load",
    "parse",
    "quantize",
    "read_file",
    "round_to_grid",
    "save",
    "write_file",
]
