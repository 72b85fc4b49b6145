"""Weights of pretrained models: where they come from, where they lie, whether they are whole, and how they are read.

```
weights/manifest.json ─ fetch ┬ single files: gdown ─ hidden file, checked ─ os.replace ─ folder/FILE and FILE.json
                              └ models of the hub: huggingface_hub ─ its cache
folder/FILE ┬ verify: against the checksum of the manifest, else against the one recorded at download
            └ file_of ─ load_state_dict: tensors and plain values alone, whatever the file asks for
```

The folder is, in this order: the argument, the environment variable ``IMAGEGS_WEIGHTS``, the user's cache. Models of
the hub are looked for there and then in the hub's own cache. Everything but `fetch` works without a network.
"""

from .checks import Check, verify
from .download import Progress, fetch
from .manifest import File, Model, model, models
from .places import ENVIRONMENT, State, file_of, files_of, state, weights_folder
from .reading import load_state_dict

__all__ = [
    "ENVIRONMENT",
    "Check",
    "File",
    "Model",
    "Progress",
    "State",
    "fetch",
    "file_of",
    "files_of",
    "load_state_dict",
    "model",
    "models",
    "state",
    "verify",
    "weights_folder",
]
