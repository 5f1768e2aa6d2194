"""The app of the tests of st.user: says who its user is."""

import streamlit as st

st.text(f"email={st.user.to_dict().get('email')}.")
st.text(f"name={st.user.to_dict().get('name')}.")
