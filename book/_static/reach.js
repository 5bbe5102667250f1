// What the theme leaves out, most of it for those who read by keyboard or by ear.
window.addEventListener("load", async () => {
  // A page's source is downloaded, not shown.
  document.querySelector(".btn-download-source-button")?.setAttribute("download", "");

  // The side bar is a part of the page that has a name; a bibliography is a list of entries.
  const side = document.getElementById("pst-primary-sidebar");
  side?.setAttribute("role", "complementary");
  side?.setAttribute("aria-label", "Side bar");
  for (const entry of document.querySelectorAll("[role=doc-biblioentry]")) entry.setAttribute("role", "listitem");
  for (const fold of document.querySelectorAll("nav summary")) fold.setAttribute("aria-label", "Pages below");

  // A formula that scrolls can be reached, to be scrolled; so can a box within an output.
  await window.MathJax?.startup?.promise;
  const reach = () => {
    for (const box of document.querySelectorAll("div.math mjx-container, div.cell_output [style*=overflow]")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  reach();
  window.addEventListener("resize", reach);
});
