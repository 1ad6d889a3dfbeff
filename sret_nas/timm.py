"""SReTs as models of timm. Importing this module registers them.

    import timm
    import sret_nas.timm

    timm.create_model("sret_t", num_classes=10)             # a published variant
    timm.create_model("sret", arch="best.yaml")             # any architecture, such as a search's result
    timm.create_model("local-dir:MODEL", pretrained=True)   # a model directory, such as `sret-nas train` writes

timm's own scripts have no option that imports a module. As a program this module imports itself and runs your copy of a
script, unmodified, with the arguments that follow:

    python -m sret_nas.timm train train.py --model sret_t ...
    torchrun --nproc_per_node 2 -m sret_nas.timm validate validate.py --model local-dir:MODEL ...
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.nn import timm_registry

MODELS = timm_registry.MODELS
"""The names that are registered."""

USAGE = "usage: python -m sret_nas.timm {train,validate} SCRIPT.py [arguments of the script]"


def main(arguments: list[str]) -> int:
    """Runs a script of timm's in this process. Returns the exit code: 2 if there is no such script."""
    if len(arguments) < 2 or arguments[0] not in ("train", "validate"):
        print(USAGE, file=sys.stderr)
        return 2
    script = Path(arguments[1])
    try:
        if not script.is_file():
            raise UserError(f"{script}: there is no such file; give the path of your copy of timm's {arguments[0]}.py")
        sys.argv = [str(script), *arguments[2:]]
        sys.path.insert(0, str(script.resolve().parent))  # as `python SCRIPT` does
        runpy.run_path(str(script), run_name="__main__")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
