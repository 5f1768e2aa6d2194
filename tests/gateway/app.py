"""The app of the gateway's tests: says what it is told, and offers a file."""

import streamlit as st

st.session_state.runs = st.session_state.get("runs", 0) + 1
st.text(f"runs={st.session_state.runs}.")
st.text(f"person={st.context.cookies.get('person')}.")
st.text(f"ip={st.context.ip_address}.")
st.text(f"host={st.context.headers.get('Host')}.")
st.text(f"for={st.context.headers.get_all('X-Forwarded-For')}.")
st.text(f"user={st.context.headers.get('X-Remote-User')}.")
st.download_button("Download", data=b"0123456789" * 500, file_name="small.txt")
