// Knows the page of Streamlit. The functions run in the browser.

// Returns true if the page is connected and its script has ended. Until then, buttons move, and a click may miss them.
export const isIdle = () => {
  const { testScriptState, testConnectionState } = document.querySelector("[data-testid=stApp]")?.dataset ?? {};
  return testScriptState === "notRunning" && testConnectionState === "CONNECTED";
};
