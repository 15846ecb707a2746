// Goes in: {"run", "words"} as JSON, or nothing (props.value). Comes out: one line with a link and a button; event `stop` with the run.
// Doesn't know what the job does. The nodes stay as long as the run is the same, so a focused button keeps its focus.

let shownRun = null;

function drawJob() {
  const root = element.querySelector(".lp-job");
  const job = props.value ? JSON.parse(props.value) : null;
  if (!root) return;
  if (!job) { root.replaceChildren(); shownRun = null; return; }
  if (job.run !== shownRun) {
    const words = document.createElement("span"), open = document.createElement("a"), stop = document.createElement("button");
    open.textContent = "Open";
    open.href = `history?run=${encodeURIComponent(job.run)}`;
    stop.textContent = "Stop";
    stop.type = "button";
    stop.addEventListener("click", () => { stop.disabled = true; trigger("stop", { run: job.run }); });
    root.replaceChildren(words, open, stop);
    shownRun = job.run;
  }
  if (root.firstChild.textContent !== job.words) root.firstChild.textContent = job.words;
}

watch("value", drawJob);
drawJob();
