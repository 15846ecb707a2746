// Ctrl+Enter presses the page's Run, Escape its Stop, unless something nearer (a token's card, a menu) took the key for itself.
// `window.loupeTouched`: whether a person has had a hand in the page's controls, so that they may be remembered.

function press(id) {
  const button = document.querySelector(`button#${id}, #${id} button`);
  if (button && !button.disabled) button.click();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) press("run");
  else if (event.key === "Escape") press("stop");
});

for (const kind of ["pointerdown", "keydown"]) {
  document.addEventListener(kind, (event) => { if (event.target.closest?.("#controls")) window.loupeTouched = true; }, true);
}
