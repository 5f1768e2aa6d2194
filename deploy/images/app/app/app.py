"""The app of the example image: an API and a page that show what reaches them through the proxies in front."""

import hashlib
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fluxlit import FluxLit
from fluxlit.client import ApiClient

app = FluxLit(title="FluxLit Edge example")


@app.api.get("/smoke")
def smoke() -> dict[str, str]:
    return {"status": "ok", "marker": "fluxlit_smoke_ok"}


@app.api.get("/request-id")
def request_id(request: Request) -> dict[str, str | None]:
    return {"request_id": request.headers.get("x-request-id")}


@app.api.get("/received")
def received(request: Request) -> dict[str, list[list[str]]]:
    """Returns the header fields as they arrived."""
    return {"headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw]}


@app.api.get("/login")
def login() -> Response:
    """Redirects to another path of the app, and sets a cookie."""
    response = RedirectResponse("/smoke", status_code=302)
    response.set_cookie("session", "1", httponly=True, samesite="lax")
    return response


@app.api.post("/upload")
async def upload(request: Request) -> dict[str, int | str]:
    """Returns the size and the hash of the body, without holding it in memory."""
    size, digest = 0, hashlib.sha256()
    async for piece in request.stream():
        size += len(piece)
        digest.update(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@app.page("/", title="Home")
def home(st: Any, client: ApiClient) -> None:
    st.title("FluxLit Edge example")
    st.session_state.setdefault("counter", 0)
    if st.button("Increment"):
        st.session_state.counter += 1
    st.write(f"counter={st.session_state.counter}")
    st.write(f"marker={client.get('/smoke').json()['marker']}")
    content = st.file_uploader("Upload")
    if content is not None:
        st.write(f"uploaded={content.name}:{len(content.getvalue())}")
