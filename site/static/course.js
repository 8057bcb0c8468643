"use strict";

// The pictures of the course ask the page's root for its theme; the theme of the site says it on the body.
const followed = () => (document.documentElement.dataset.theme = document.body.dataset.theme ?? "auto");
new MutationObserver(followed).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
followed();

// A picture is loaded when it comes near: its data, then the module that draws it.
const loaded = (src) => new Promise((done, failed) => {
  document.head.append(Object.assign(document.createElement("script"), { src, onload: done, onerror: failed }));
});
const near = new IntersectionObserver((seen) => seen.filter(({ isIntersecting }) => isIntersecting).forEach(async ({ target }) => {
  near.unobserve(target);
  const { from, state, module } = target.dataset;
  await loaded(`${from}${state}.js`);
  await loaded(`${from}${module}.js`);
}), { rootMargin: "600px" });
document.querySelectorAll(".picture-here").forEach((here) => near.observe(here));

// The line of the glossary over the symbol that the pointer is on or a finger has tapped. SYMBOLS: from symbols.js.
const line = document.createElement("div");
line.id = "symbol-line";
line.setAttribute("role", "tooltip");
line.hidden = true;
document.body.append(line);
document.addEventListener("pointerover", ({ target }) => {
  const symbol = target.closest("[data-s]");
  line.hidden = !symbol;
  if (!symbol) return;
  line.textContent = SYMBOLS[symbol.dataset.s];
  const { left, bottom } = symbol.getBoundingClientRect(), room = document.documentElement.clientWidth - line.offsetWidth - 12;
  line.style.left = `${Math.max(12, Math.min(left, room)) + scrollX}px`;
  line.style.top = `${bottom + scrollY + 6}px`;
});
document.addEventListener("keydown", ({ key }) => key === "Escape" && (line.hidden = true));

// What is folded is printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => (fold.open = true)));
