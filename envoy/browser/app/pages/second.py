"""A second page, to test links and deep links."""

import streamlit as st

st.title("Second page")
