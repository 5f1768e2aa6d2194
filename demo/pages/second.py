"""A second page, which shows that links and deep links below the app's path work."""

import streamlit as st

st.title("Second page")
st.write("The URL of this page is below the app's path and can be opened directly.")
