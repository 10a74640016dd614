// Light, dark, or as the system has it.

const THEMES = ["auto", "light", "dark"];

function chosenTheme() {
  try {
    const chosen = localStorage.getItem("theme");
    return THEMES.includes(chosen) ? chosen : "auto";
  } catch {
    return "auto"; // storage is forbidden
  }
}

function showTheme() {
  const chosen = chosenTheme();
  document.documentElement.dataset.theme = chosen;
  const button = document.getElementById("theme");
  button.hidden = false;
  button.title = `Theme: ${chosen}`;
  button.querySelector("span").textContent = `Theme: ${chosen}`;
}

document.getElementById("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", next);
  } catch {
    // it lasts for this page alone
  }
  showTheme();
});
showTheme();
