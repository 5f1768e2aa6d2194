"""The app of the browser test: one widget for each feature to test."""

import hashlib
import json
import time

import streamlit as st

st.set_page_config(page_title="Browser test")
st.title("Browser test")

st.session_state.setdefault("counter", 0)
if st.button("Increment"):
    st.session_state.counter += 1
st.write(f"counter={st.session_state.counter}")

st.write(f"hello={st.text_input('Name')}")

upload = st.file_uploader("Upload")
if upload is not None:
    content = upload.getvalue()
    st.write(f"uploaded={upload.name}:{len(content)}:{hashlib.sha256(content).hexdigest()[:16]}")

st.download_button("Small", data=b"0123456789" * 500, file_name="small.txt")
st.download_button("Large", data=bytes(range(256)) * 32768, file_name="large.bin")

if st.button("Ticks"):
    for tick in range(1, 6):
        st.write(f"tick={tick}")
        time.sleep(1)

if st.button("Big message"):
    st.text_area("Big", "x" * 4_000_000)
    st.write("big=done")

names = ["Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Remote-User"]
with st.container(key="context"):
    context = {
        "headers": {name: st.context.headers.get(name) for name in names},
        "cookies": dict(st.context.cookies),
        "ip_address": st.context.ip_address,
        "url": st.context.url,
    }
    st.code(json.dumps(context), language=None)
