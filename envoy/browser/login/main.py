"""The app of the login test, which shows the logged-in user."""

import streamlit as st

st.title("Login test")
if st.user.is_logged_in:
    st.write(f"user={st.user.email}")
    if st.button("Log out"):
        st.logout()
else:
    st.write("user=none")
    if st.button("Log in"):
        st.login()
