// Goes in: the strip of a run page whose run got no GPU turn, or lost it. Comes out: the way to the page's recorded run. Doesn't know why there was none.

function newGpuOffer(strip) {
  const view = { above: true }, link = make("a", "", "See a recorded run");
  view.node = make("p", "lp-quiet lp-gpu-offer");
  view.node.hidden = true;
  link.href = location.pathname;
  view.node.append(link, " meanwhile: real results, marked with model, device and date.");
  view.update = () => {
    view.node.hidden = strip.failed?.where !== "gpu" || !document.getElementById("run");
    if (!view.node.hidden && !view.node.isConnected) strip.live.after(view.node);  // right under the words, before the picture
  };
  view.reset = () => { strip.failed = null; };
  return view;
}

VIEWS.push(newGpuOffer);
