// Goes in: the lane of a scan. Comes out: what its lines say, as the scan's views need it: candidates, sums of the map, pace, columns. Draws nothing.

const LOOK = "hidden_text", SCAN = "hidden_text.scan";

// Columns of the table: key, name (a term of the glossary), from the row itself or from its `columns`.
const SCAN_COLUMNS = [["rank", "rank"], ["text", "text"], ["score", "score"], ["lift", "lift"], ["found_by", "found by"]];
const MORE_COLUMNS = [
  ["context", "context"], ["votes", "votes"], ["contexts", "contexts"], ["texts", "texts"], ["reference_mean", "mean p of three"],
  ["reference_rule", "published rule"], ["mean_logprob", "mean log p"], ["min_logprob", "lowest log p"], ["reference_logprob", "reference's log p"],
  ["confident_lift", "confident lift"], ["certainty", "certainty"], ["lift_run", "lift run"], ["entropy", "entropy"],
  ["entropy_drop", "entropy drop"], ["period", "period"], ["periodic", "periodic tail"], ["min_k", "Min-K %++"], ["rarity", "rarity"], ["ends", "ends"],
];

function scanLane(lanes) {
  return lanes.find((lane) => lane.method === SCAN) || null;
}

function scanFound(lane, kind) {
  return lane.findings.filter((event) => event.kind === kind).map((event) => event.data || {});
}

function candidatesOf(lane) {
  return scanFound(lane, "candidate").filter((row) => typeof row.text === "string").sort((a, b) => a.rank - b.rank);
}

// The best so far, while there is no list yet.
function bestOf(lane) {
  const all = scanFound(lane, "best");
  return all.length ? all[all.length - 1].candidates || [] : [];
}

function fieldOf(row, key) {
  return Object.hasOwn(row, key) ? row[key] : (row.columns || {})[key];
}

function fieldWords(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map(prose).join(", ");
  if (typeof value !== "number") return prose(value);
  return (Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1)).replace("-", "−");
}

// Pace of the part under way: tokens a second, and the time that this part still takes.
function paceWords(lane) {
  const { progress } = lane;
  if (!progress || lane.ended) return "";
  const words = [];
  if (progress.rate) words.push(`${Math.round(progress.rate).toLocaleString("en")} a second`);
  if (progress.rate && progress.total > progress.done) words.push(`${timeWords((progress.total - progress.done) / progress.rate)} left of this part`);
  return words.join(", ");
}

function timeWords(seconds) {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

// One map a sweep and context: the best merit of each cell so far.
function mapsOf(lane) {
  const maps = new Map();
  for (const { sweep, context, cells, values } of scanFound(lane, "map")) {
    const key = `${sweep}\n${context}`;
    if (!maps.has(key)) maps.set(key, { sweep: String(sweep), context: String(context), cells, best: new Map() });
    const { best } = maps.get(key);
    for (const [cell, value] of values || []) best.set(cell, Math.max(value, best.get(cell) ?? -Infinity));
  }
  return [...maps.values()];
}
