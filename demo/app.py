"""The demo of `cargo xtask up`: shows the request headers that an app receives."""

import hashlib

import streamlit as st

st.set_page_config(page_title="FluxLit Edge demo", page_icon=":material/shield:", layout="centered")

st.title("FluxLit Edge demo")
st.write("This page is served through Envoy, the filter and the gateway, under its own path.")

st.session_state.setdefault("counter", 0)
if st.button("Increment", icon=":material/add:"):
    st.session_state.counter += 1
st.write(f"counter={st.session_state.counter}")

left, right = st.columns(2)
with left:
    upload = st.file_uploader("Upload a file")
    if upload is not None:
        content = upload.getvalue()
        digest = hashlib.sha256(content).hexdigest()[:16]
        st.write(f"uploaded {upload.name}: {len(content)} bytes, sha256 {digest}")
with right:
    st.write("Download a file")
    st.download_button("Download", data=b"0123456789" * 500, file_name="five-kilobytes.txt")

st.subheader("Headers that the app receives")
names = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "Host"]
st.table({"header": names, "value": [st.context.headers.get(name, "not received") for name in names]})

forged = ["Forwarded", "X-Remote-User", "X-Auth-Request-User", "True-Client-IP", "X-Original-URL"]
arrived = [name for name in forged if name in st.context.headers]
st.write("forged headers that arrived: " + (", ".join(arrived) or "none"))

# `fluxlit-gateway doctor --probe URL --write` asks for a long message.
if length := st.query_params.get("doctor_echo"):
    st.text("x" * min(int(length), 4 * 1024 * 1024))
