"""A second page, so that links and deep links below the app's path are seen to work."""

import streamlit as st

st.title("Second page")
st.write("Its address is below the app's path, and may be opened directly.")
