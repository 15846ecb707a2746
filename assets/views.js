// The places where a page's further scripts hang themselves in, before the strip is made.
// A view: (strip) → { node, above, update(lanes, lane, verdict), reset(), opened(lane, token), coming() }; only `node` and `update` must be there.
// `above`: over the texts, else below them. It hides itself where the lanes have nothing for it. `coming`: new lines are about to be read.
// In a replay a view gets lanes that are cut where somebody looks; `lane.whole` is then all of it, for scales that shall not move.

const VIEWS = [];
const MORE_READERS = {};  // event of a line: (strip, event), for lines that only some pages have
const CARD_FACTS = [];  // (add, lane, token): more facts of one token, for its card
