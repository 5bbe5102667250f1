// What a page is asked, in the page. Each answer is a list of findings: [check, what was found].
window.bookChecks = (() => {
  const words = (text) => text.trim().replace(/\s+/g, " ").slice(0, 80);
  const name = (element) => {
    const marks = [...element.classList].slice(0, 2).map((mark) => `.${mark}`).join("");
    const id = element.id ? `#${element.id}` : "";
    return `${element.localName}${id}${marks} ${JSON.stringify(words(element.alt || element.textContent || ""))}`;
  };

  // Milliseconds from navigation to when there is all that a reader waits for: mathematics, fonts, pictures.
  const ready = async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    await document.fonts.ready;
    for (const image of document.images) image.loading = "eager";
    await Promise.allSettled([...document.images].map((image) => image.decode()));
    return performance.now();
  };

  // Shows what is folded, and the button that scrolling up brings: they are checked too.
  const unfold = () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
    const up = document.getElementById("pst-back-to-top");
    if (up) up.style.display = "block";
  };

  const mathematics = () => {
    const found = [];
    for (const math of document.querySelectorAll(".math")) {
      if (!math.querySelector("mjx-container")) found.push(["mathematics", `not set: ${name(math)}`]);
    }
    for (const error of document.querySelectorAll("mjx-merror, merror, [data-mjx-error]")) {
      const why = error.getAttribute("data-mjx-error") ?? error.querySelector("[data-mjx-error]")?.dataset.mjxError;
      found.push(["mathematics", `MathJax: ${why ?? words(error.textContent)}`]);
    }
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const { data, parentElement } = texts.currentNode;
      if (/\$|\\\(|\\\[|\\begin\{/.test(data) && !parentElement.closest("pre, code, script, style, textarea, .math")) {
        found.push(["mathematics", `raw TeX: ${JSON.stringify(words(data))}`]);
      }
    }
    return found;
  };

  const images = () => {
    const found = [];
    for (const image of document.images) {
      const file = image.src.startsWith("data:") ? "data:…" : image.src.split("/").pop();
      if (!image.complete || !image.naturalWidth) found.push(["images", `not loaded: ${file}`]);
      if (!image.alt.trim()) found.push(["images", `no alt text: ${file}`]);
    }
    return found;
  };

  // What is wider than the page, and what sticks out with nothing around it that scrolls.
  const width = () => {
    const found = [];
    const page = document.scrollingElement;
    if (page.scrollWidth > innerWidth) found.push(["width", `the page is ${page.scrollWidth} px wide`]);
    for (const element of document.querySelectorAll("main :is(table, pre, img, svg:not(svg *), mjx-container, p, li)")) {
      const box = element.getBoundingClientRect();
      if (!box.width || !box.height || box.right <= innerWidth + 1 || element.closest("mjx-assistive-mml")) continue;
      let around = element;
      while (around && !/auto|scroll/.test(getComputedStyle(around).overflowX)) around = around.parentElement;
      if (!around) found.push(["width", `sticks out, to ${Math.round(box.right)} px: ${name(element)}`]);
    }
    return found;
  };

  const scheme = (wanted) => {
    const theme = document.documentElement.dataset.theme;
    return theme === undefined || theme === wanted ? [] : [["scheme", `the page is ${theme}`]];
  };

  const anchors = () => ({
    ids: [...document.querySelectorAll("[id], a[name]")].flatMap((element) => [element.id, element.name ?? ""]),
    links: [...document.querySelectorAll("a[href], area[href]")].map((link) => [link.href, words(link.textContent)]),
  });

  // Leaves one of all texts that look the same, by their elements' names and classes up to the page's: axe tells the
  // contrast of each of thousands otherwise, in minutes.
  const thin = () => {
    const looks = new Map([[document.body, ""]]);
    const look = (element) => {
      if (!looks.has(element)) {
        const row = element.localName === "tr" ? element.sectionRowIndex % 2 : "";
        const own = [element.localName, element.className, element.getAttribute("style"), row].join(" ");
        looks.set(element, `${look(element.parentElement)} > ${own}`);
      }
      return looks.get(element);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    const again = [];
    while (texts.nextNode()) {
      if (!texts.currentNode.data.trim()) continue;
      const kind = look(texts.currentNode.parentElement);
      if (seen.has(kind)) again.push(texts.currentNode);
      seen.add(kind);
    }
    for (const text of again) text.data = " ";
  };

  // Violations that axe finds: of colours, or of all the rest.
  const accessible = async (ofColours) => {
    const colours = ["color-contrast", "link-in-text-block"];
    const some = ofColours
      ? { runOnly: { type: "rule", values: colours } }
      : { rules: Object.fromEntries(colours.map((rule) => [rule, { enabled: false }])) };
    const { violations } = await axe.run(document, { ...some, resultTypes: ["violations"], preload: false });
    return violations.flatMap(({ id, help, nodes }) =>
      nodes.map((node) => ["axe", `${id} (${help}): ${node.target.join(" ")}: ${words(node.html)}`]),
    );
  };

  return { ready, unfold, mathematics, images, width, scheme, anchors, thin, accessible };
})();
