// Goes in: {words, href, label} as JSON, each where there is one (props.value). Comes out: a sentence and a link to a page of ours.

function drawWay() {
  const { words, href, label } = props.value ? JSON.parse(props.value) : {}, root = element.querySelector(".lp-way");
  if (!root) return;
  const link = document.createElement("a");
  if (/^\w+\?run=[\w-]+$/.test(href || "")) link.href = href;
  link.textContent = label || "";
  root.replaceChildren(...(words ? [words] : []), ...(link.href ? [link] : []));
}

watch("value", drawWay);
drawWay();
