//! Finds what is wrong between a browser and a Streamlit app.
