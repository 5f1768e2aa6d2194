"""Prints the rows of gateway/tests/public_urls.json with the URLs that the installed FluxLit builds."""

import json
import os
import sys

for name in [name for name in os.environ if name.startswith("FLUXLIT_")]:
    del os.environ[name]

import fluxlit
from starlette.requests import Request


def results(row):
    settings = {"root_path": row["mount"], "api_mount_path": row["api_path"]}
    if row["public_base_url"] is not None:
        settings["public_base_url"] = row["public_base_url"]
    app = fluxlit.FluxLit(settings=fluxlit.FluxlitSettings(**settings))
    urls = fluxlit.FluxLitPublicUrls(app)
    request = Request(
        {
            "type": "http",
            "method": "GET",
            "scheme": row["scheme"],
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", row["host"].encode())],
        }
    )
    pages = [urls.page_url(request, page["path"], query=dict(page["query"])) for page in row["pages"]]
    return {
        "app": urls.app_base(request),
        "api": urls.api_base(request),
        "docs": urls.docs_url(request),
        "redoc": urls.redoc_url(request),
        "openapi": urls.openapi_url(request),
        "health": urls.health_url(request),
        "ready": urls.ready_url(request),
        "pages": pages,
    }


rows = json.load(open(sys.argv[1], encoding="utf-8"))
for row in rows:
    row["fluxlit"] = results(row)
json.dump(rows, sys.stdout, indent=2, ensure_ascii=False)
print()
