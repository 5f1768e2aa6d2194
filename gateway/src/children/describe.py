"""Prints what the gateway must know of a FluxLit app before it starts it."""

import importlib.util
import json
import pathlib
import sys

if importlib.util.find_spec("uvicorn") is None:
    raise ModuleNotFoundError("No module named 'uvicorn'")

import fluxlit
from fluxlit.runtime import load_fluxlit


def report(description):
    print("\n" + sys.argv[2] + json.dumps(description), flush=True)


def fault(target):
    """Returns what the target is instead of a FluxLit app."""
    path, _, name = target.partition(":")
    is_file = "/" in path or path.endswith(".py")
    module = sys.modules[pathlib.Path(path).stem if is_file else path]
    members = vars(module)
    return {
        "module": path,
        "attribute": name,
        "kind": type(members[name]).__name__ if name in members else None,
        "is_callable": callable(members.get(name)),
        "apps": [
            f"{path}:{other}"
            for other, value in members.items()
            if isinstance(value, fluxlit.FluxLit)
        ],
    }


try:
    settings = load_fluxlit(sys.argv[1]).settings
except (AttributeError, TypeError) as error:
    # One of the app's own code has come through more functions than this one of FluxLit.
    if error.__traceback__.tb_next.tb_next is None:
        report(fault(sys.argv[1]))
        sys.exit(1)
    raise
report({
    "entry": str(pathlib.Path(fluxlit.__file__).parent / "streamlit" / "main.py"),
    "api_mount_path": settings.api_mount_path,
    "root_path": settings.public_mount_path(),
    "streamlit_arguments": settings.streamlit_run_cli_args,
})
