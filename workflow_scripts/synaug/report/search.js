"use strict";
// Search of the gallery: hides the images that do not match. Without JavaScript, all images are visible.
(() => {
  const form = document.getElementById("search");
  if (!form) return;
  const field = form.querySelector("input"), status = form.querySelector("output");
  const comparisons = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };
  let classes = null;
  form.hidden = false;

  // One entry per class: its name, and for each synthetic image its list item and its row in the table of details.
  function readClasses() {
    return [...document.querySelectorAll(".class")].map((element) => {
      const name = element.querySelector("h3").textContent.toLowerCase();
      const heads = [...element.querySelectorAll("thead th")].map((head) => head.textContent.trim());
      const items = [...element.querySelectorAll("li[data-generated]")];
      const images = [...element.querySelectorAll("tbody tr")].map((row, i) => {
        const cells = [...row.children].map((cell) => cell.textContent.trim());
        return { row, item: items[i], text: name + " " + cells.join(" ").toLowerCase(), values: Object.fromEntries(heads.map((head, j) => [head, cells[j]])) };
      });
      const kinds = [...element.querySelectorAll(".kinds > div")].filter((kind) => kind.querySelector("li[data-generated]"));
      return { element, name, images, kinds, details: element.querySelector("details") };
    });
  }

  // `"ankle boot" confidence<0.5` -> required words and phrases, and comparisons of scores.
  function parse(query) {
    const words = [], limits = [];
    for (const [, phrase, word] of query.toLowerCase().matchAll(/"([^"]*)"|(\S+)/g)) {
      const limit = /^([a-z]+)(<=|>=|<|>|=)(-?[\d.]+)$/.exec(word || "");
      if (limit) limits.push({ name: limit[1], compare: comparisons[limit[2]], value: Number(limit[3]) });
      else words.push(phrase || word || "");
    }
    return { words, limits };
  }

  const counted = (count, singular, plural) => `${count} ${count === 1 ? singular : plural}`;

  function search() {
    classes = classes || readClasses();
    const query = field.value.trim(), { words, limits } = parse(query);
    let shownImages = 0, shownClasses = 0;
    for (const { element, name, images, kinds, details } of classes) {
      let hits = 0;
      for (const image of images) {
        const match = words.every((word) => image.text.includes(word)) &&
          limits.every((limit) => image.values[limit.name] && limit.compare(Number(image.values[limit.name]), limit.value));
        image.row.hidden = image.item.hidden = !match;
        hits += match;
      }
      const nameMatches = !limits.length && words.every((word) => name.includes(word));
      element.hidden = !(hits || nameMatches);
      for (const kind of kinds) kind.hidden = !kind.querySelector("li:not([hidden])");
      if (details) details.open = Boolean(query) && hits > 0;
      shownImages += hits;
      shownClasses += hits || nameMatches ? 1 : 0;
    }
    status.textContent = query ? `${counted(shownImages, "synthetic image", "synthetic images")}, ${counted(shownClasses, "class", "classes")}` : "";
    history.replaceState(null, "", query ? "#search=" + encodeURIComponent(query) : location.pathname + location.search);
  }

  function searchFromAddress() {
    const fragment = /^#search=(.*)$/.exec(location.hash);
    if (!fragment) return;
    field.value = decodeURIComponent(fragment[1]);
    search();
    form.scrollIntoView({ behavior: "instant" });
  }

  let timer = 0;
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 120); });
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  window.addEventListener("hashchange", searchFromAddress);
  searchFromAddress();
})();
