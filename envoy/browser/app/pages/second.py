"""A second page, for links and deep links."""

import streamlit as st

st.title("Second page")
