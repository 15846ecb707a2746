// Goes in: the address; the page calls the function with the names of pages. Comes out: with ?embed=1 a page without its frame (the style sheet hides it) and a way to the whole one; with ?page=NAME, as a
// Space hands it to the first page, the page of that name. Runs in the head, before anything is drawn, so nothing flashes.

((pages) => {
  const query = new URLSearchParams(location.search), page = query.get("page");
  const open = () => {
    const link = document.createElement("a");
    query.delete("embed");
    Object.assign(link, { className: "lp-embed-open", href: `${location.pathname}?${query}`, target: "_blank", rel: "noopener", textContent: "Open in Loupe" });
    document.body.append(link);
  };
  if (pages.includes(page) && !location.pathname.endsWith(`/${page}`)) {
    query.delete("page");
    location.replace(`${page}?${query}`);
  } else if (["1", "true"].includes(query.get("embed"))) {
    document.documentElement.classList.add("loupe-embed");
    if (document.body) open();
    else document.addEventListener("DOMContentLoaded", open);
  }
})
