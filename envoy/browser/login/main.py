"""The app of the login test: it shows who is logged in."""

import streamlit as st

st.title("Login test")
if st.user.is_logged_in:
    st.write(f"user={st.user.email}")
    if st.button("Log out"):
        st.logout()
else:
    st.write("user=nobody")
    if st.button("Log in"):
        st.login()
