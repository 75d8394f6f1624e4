"use strict";
// Search of the gallery. Without JavaScript all images are there; this hides those that do not match.
(() => {
  const form = document.getElementById("search");
  if (!form) return;
  const field = form.querySelector("input"), said = form.querySelector("output");
  const compare = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };
  let classes = null;
  form.hidden = false;

  // One entry per class: its name, and of each synthetic image the row of the table that tells of it.
  function read() {
    return [...document.querySelectorAll(".class")].map((element) => {
      const name = element.querySelector("h3").textContent.toLowerCase();
      const heads = [...element.querySelectorAll("thead th")].map((head) => head.textContent.trim());
      const items = [...element.querySelectorAll("li[data-made]")];
      const images = [...element.querySelectorAll("tbody tr")].map((row, i) => {
        const cells = [...row.children].map((cell) => cell.textContent.trim());
        return { row, item: items[i], text: name + " " + cells.join(" ").toLowerCase(), values: Object.fromEntries(heads.map((head, j) => [head, cells[j]])) };
      });
      const kinds = [...element.querySelectorAll(".kinds > div")].filter((kind) => kind.querySelector("li[data-made]"));
      return { element, name, images, kinds, details: element.querySelector("details") };
    });
  }

  // "ankle boot" confidence<0.5 -> words that must be there, and comparisons of scores.
  function parse(query) {
    const words = [], limits = [];
    for (const [, phrase, word] of query.toLowerCase().matchAll(/"([^"]*)"|(\S+)/g)) {
      const limit = /^([a-z]+)(<=|>=|<|>|=)(-?[\d.]+)$/.exec(word || "");
      if (limit) limits.push({ name: limit[1], holds: compare[limit[2]], value: Number(limit[3]) });
      else words.push(phrase || word || "");
    }
    return { words, limits };
  }

  function search() {
    classes = classes || read();
    const query = field.value.trim(), { words, limits } = parse(query);
    let images = 0, shown = 0;
    for (const one of classes) {
      let hits = 0;
      for (const image of one.images) {
        const match = words.every((word) => image.text.includes(word)) &&
          limits.every(({ name, holds, value }) => image.values[name] && holds(Number(image.values[name]), value));
        image.row.hidden = image.item.hidden = !match;
        hits += match;
      }
      const whole = !limits.length && words.every((word) => one.name.includes(word));
      one.element.hidden = !(hits || whole);
      for (const kind of one.kinds) kind.hidden = !kind.querySelector("li:not([hidden])");
      if (one.details) one.details.open = Boolean(query) && hits > 0;
      images += hits;
      shown += hits || whole ? 1 : 0;
    }
    said.textContent = query ? `${images} synthetic image${images === 1 ? "" : "s"}, ${shown} class${shown === 1 ? "" : "es"}` : "";
    history.replaceState(null, "", query ? "#search=" + encodeURIComponent(query) : location.pathname + location.search);
  }

  function follow() {
    const asked = /^#search=(.*)$/.exec(location.hash);
    if (!asked) return;
    field.value = decodeURIComponent(asked[1]);
    search();
    form.scrollIntoView({ behavior: "instant" });
  }

  // On paper nothing can be unfolded: the tables of the sections are printed, the long ones of the gallery are not.
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("section > details:not([open])")];
    for (const details of unfolded) details.open = true;
  });
  window.addEventListener("afterprint", () => { for (const details of unfolded) details.open = false; });

  let waiting = 0;
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  window.addEventListener("hashchange", follow);
  follow();
})();
