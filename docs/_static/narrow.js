// What CSS alone can't: a name that is too long for its line breaks after a dot or an underscore,
// and not inside a word; a table that doesn't fit is stacked (see narrow.css).

function breakAtJoints(element) {
  const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) found.push(texts.currentNode);
  for (const text of found) {
    const parts = text.data.split(/(?<=\w[._])(?=\w)/);
    if (parts.length < 2) continue;
    text.replaceWith(...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
  }
}

function nameColumns(table) {
  const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
  if (names.length < 3) return; // of two it is clear which is which
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, i) => (cell.dataset.column = names[i]));
  }
}

function stackWhatOverflows() {
  for (const table of document.querySelectorAll("article table.docutils")) {
    table.classList.remove("stacked");
    const room = table.parentElement;
    table.classList.toggle("stacked", room.scrollWidth > room.clientWidth);
  }
}

function breakLongCode() {
  for (const code of document.querySelectorAll("article code.literal:not(.long)")) {
    const room = code.closest("p, dt, dd, li, td, h1, h2, h3");
    if (!room || code.getBoundingClientRect().width < room.clientWidth) continue;
    code.classList.add("long");
    breakAtJoints(code);
  }
}

function fit() {
  stackWhatOverflows();
  breakLongCode();
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article :is(h1, h2, h3)").forEach(breakAtJoints);
  document.querySelectorAll("article table.docutils").forEach(nameColumns);
  fit();
  addEventListener("resize", fit);
});
