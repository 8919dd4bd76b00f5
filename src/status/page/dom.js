/** Elements whose content is text, whatever is in it. */

export function element(name, text = '') {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/** Leaves alone what is the same already, so that a selection in it stays. */
export function fill(parent, children) {
  const before = [...parent.children];
  for (const [i, child] of children.entries()) {
    const old = before[i];
    if (old === undefined) parent.append(child);
    else if (!old.isEqualNode(child)) old.replaceWith(child);
  }
  for (const old of before.slice(children.length)) old.remove();
}

export function setText(id, text) {
  const target = document.getElementById(id);
  if (target.textContent !== text) target.textContent = text;
}
