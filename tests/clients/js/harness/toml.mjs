// Writes a plain object as TOML: tables, arrays of tables, strings, numbers, booleans, lists, inline tables in lists.

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isTables = (value) => Array.isArray(value) && value.length > 0 && value.every(isTable);

function value(of) {
  if (Array.isArray(of)) return `[${of.map(value).join(", ")}]`;
  if (isTable(of)) return `{ ${Object.entries(of).map(([key, item]) => `${JSON.stringify(key)} = ${value(item)}`).join(", ")} }`;
  return JSON.stringify(of);
}

// `inline` names lists whose tables stay on one line, by key path.
export function toToml(object, inline = ["upstream.keys"], path = "") {
  const lines = [];
  const at = (key) => (path ? `${path}.${key}` : key);
  const later = [];
  for (const [key, item] of Object.entries(object)) {
    if (item === undefined) continue;
    if (isTable(item)) later.push(`\n[${at(key)}]\n${toToml(item, inline, at(key))}`);
    else if (isTables(item) && !inline.includes(at(key)))
      for (const row of item) later.push(`\n[[${at(key)}]]\n${toToml(row, inline, at(key))}`);
    else lines.push(`${key} = ${value(item)}`);
  }
  return [...lines, ...later].join("\n");
}
