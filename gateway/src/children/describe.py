"""Prints what the gateway must know of a FluxLit app before it starts it."""

import importlib.util
import json
import pathlib
import sys

if importlib.util.find_spec("uvicorn") is None:
    raise ModuleNotFoundError("No module named 'uvicorn'")

import fluxlit
from fluxlit.runtime import load_fluxlit

settings = load_fluxlit(sys.argv[1]).settings
print(
    "\n" + sys.argv[2] + json.dumps({
        "entry": str(pathlib.Path(fluxlit.__file__).parent / "streamlit" / "main.py"),
        "api_mount_path": settings.api_mount_path,
        "root_path": settings.public_mount_path(),
        "streamlit_arguments": settings.streamlit_run_cli_args,
    }),
    flush=True,
)
