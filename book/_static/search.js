// A search box above every table of class "searchable": rows without all the words typed are hidden.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.searchable")) {
    const rows = [...table.tBodies[0].rows];
    const box = document.createElement("input");
    const count = document.createElement("output");
    box.type = "search";
    const example = table.classList.contains("sentences") ? "bfloat16" : "W⁻¹ inconsistent";
    box.placeholder = `Search, such as: ${example}`;
    box.setAttribute("aria-label", "Search the table");
    const show = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      count.textContent = ` ${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    };
    box.addEventListener("input", show);
    const bar = document.createElement("p");
    bar.className = "search";
    bar.append(box, count);
    table.parentElement.before(bar);
    show();
  }
});
