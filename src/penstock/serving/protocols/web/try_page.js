"use strict";

// Everything that is shown goes in as text, never as markup: names and answers come from models.

const part = (id) => document.getElementById(id);
const LANGUAGES = ["curl", "Python", "JavaScript"];
const TENSORS = "V2 tensors";
const state = { models: new Map(), model: null, form: null, language: LANGUAGES[0], edited: new Map() };

function cell(kind, text) {
  const made = document.createElement(kind);
  if (kind === "th") made.scope = "row";
  made.textContent = text;
  return made;
}

function fill(body, rows) {
  body.replaceChildren(...rows.map(([first, ...rest]) => {
    const row = document.createElement("tr");
    row.append(cell("th", first), ...rest.map((text) => cell("td", text)));
    return row;
  }));
}

// JSON with lists of plain values on one line, so that a row of thirty numbers is a line and not thirty.
function pretty(value, indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const entries = list ? value : Object.values(value);
  const names = list ? null : Object.keys(value);
  const pieces = (deeper) =>
    entries.map((each, index) => (list ? "" : `${JSON.stringify(names[index])}: `) + pretty(each, deeper));
  const [open, close] = list ? "[]" : "{}";
  if (entries.every((each) => each === null || typeof each !== "object")) return open + pieces(indent).join(", ") + close;
  const deeper = `${indent}  `;
  return `${open}\n${pieces(deeper).map((piece) => deeper + piece).join(",\n")}\n${indent}${close}`;
}

function shape(tensor) {
  const [rows, ...axes] = tensor.shape;
  return [rows === -1 ? "rows" : rows, ...axes.map((axis) => (axis === -1 ? "any" : axis))].join(" × ");
}

function values(tensor) {
  const said = [];
  if (tensor.categories) said.push(tensor.categories.slice(0, 20).join(", ") + (tensor.categories.length > 20 ? ", …" : ""));
  if (tensor.missing) said.push("may be null");
  return said.join("; ") || "–";
}

function readModels(openapi) {
  for (const [path, item] of Object.entries(openapi.paths)) {
    const found = path.match(/^\/models\/([^/]+)\/invocations$/);
    if (!found) continue;
    const examples = (operation) =>
      Object.entries(operation.requestBody.content["application/json"].examples).map(([name, { value }]) => [name, value]);
    const infer = `/v2/models/${found[1]}/infer`;
    const forms = new Map(examples(item.post).map(([name, value]) => [name, { path, example: pretty(value) }]));
    const [[, tensors]] = examples(openapi.paths[infer].post);
    forms.set(TENSORS, { path: infer, example: pretty(tensors) });
    state.models.set(found[1], {
      forms,
      version: item.post["x-penstock-version"],
      platform: item.post["x-penstock-platform"],
      inputs: item.post["x-penstock-inputs"],
      outputs: item.post["x-penstock-outputs"],
    });
  }
}

function choices(parent, group, names, chosen, onChosen) {
  parent.replaceChildren(...names.map((name) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: group, value: name, checked: name === chosen });
    input.addEventListener("change", () => onChosen(name));
    label.append(input, name);
    return label;
  }));
}

function showModel(name) {
  state.model = name;
  const model = state.models.get(name);
  part("model").value = name;
  part("about").textContent = `version ${model.version} on ${model.platform}`;
  fill(part("inputs"), model.inputs.map((each) => [each.name, each.datatype, shape(each), values(each)]));
  fill(part("outputs"), model.outputs.map((each) => [each.name, each.datatype, shape(each)]));
  const form = model.forms.has(state.form) ? state.form : model.forms.keys().next().value;
  choices(part("forms"), "form", [...model.forms.keys()], form, showForm);
  showForm(form);
  showNothing();
}

function showForm(form) {
  state.form = form;
  const { path, example } = state.models.get(state.model).forms.get(form);
  part("path").textContent = `POST ${path}`;
  part("body").value = state.edited.get(`${state.model} ${form}`) ?? example;
  showCode();
}

function showNothing() {
  part("status").className = "quiet";
  part("status").textContent = "Nothing was sent yet.";
  part("answer").textContent = "";
  part("mistakes").hidden = true;
}

function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// A body as it stands, or on one line where it is JSON.
function compact(body) {
  try {
    JSON.parse(body);
  } catch {
    return body;
  }
  return body.replace(/\n\s*/g, " ");
}

const writers = {
  curl: (url, body) => `curl ${shell(url)} \\\n  -H 'content-type: application/json' \\\n  -d ${shell(compact(body))}`,
  Python: (url, body) => [
    "import json", "import urllib.request", "",
    `body = json.loads(${JSON.stringify(compact(body))})`,
    "request = urllib.request.Request(",
    `    ${JSON.stringify(url)},`,
    "    data=json.dumps(body).encode(),",
    '    headers={"content-type": "application/json"},',
    ")",
    "with urllib.request.urlopen(request, timeout=30) as answer:",
    "    print(json.load(answer))",
  ].join("\n"),
  JavaScript: (url, body) => [
    `const answer = await fetch(${JSON.stringify(url)}, {`,
    '  method: "POST",',
    '  headers: {"content-type": "application/json"},',
    `  body: JSON.stringify(${compact(body)}),`,
    "});",
    "if (!answer.ok) throw new Error((await answer.json()).error);",
    "console.log(await answer.json());",
  ].join("\n"),
};

function showCode() {
  const { path } = state.models.get(state.model).forms.get(state.form);
  part("code").textContent = writers[state.language](new URL(path, location.href).href, part("body").value);
  part("copied").textContent = "";
}

async function send(event) {
  event.preventDefault();
  if (part("send").disabled) return;
  const { path } = state.models.get(state.model).forms.get(state.form);
  part("send").disabled = true;
  part("mistakes").hidden = true;
  const began = performance.now();
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: part("body").value,
    });
    const text = await answer.text();
    showAnswer(answer, text, performance.now() - began);
  } catch (error) {
    part("status").className = "bad";
    part("status").textContent = `The server did not answer: ${error.message}`;
    part("answer").textContent = "";
  } finally {
    part("send").disabled = false;
  }
}

function showAnswer(answer, text, took) {
  part("status").className = answer.ok ? "good" : "bad";
  const version = answer.headers.get("x-penstock-version");
  const by = version === null ? "" : ` · version ${version}`;
  part("status").textContent = `${answer.status} ${answer.statusText} · ${took.toFixed(1)} ms${by}`;
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Shown as it came.
  }
  part("answer").textContent = body === null ? text : pretty(body);
  const fields = body?.fields ?? [];
  part("mistakes").hidden = fields.length === 0;
  fill(part("fields"), fields.map((each) => [each.row ?? "all", each.column, each.expected, each.got]));
}

async function copy() {
  const code = part("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Without TLS a page may not write to the clipboard; the user's own copying still works.
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  part("copied").textContent = "Copied";
}

function fromAddress() {
  const named = decodeURIComponent(location.hash.slice(1));
  return state.models.has(named) ? named : null;
}

async function start() {
  part("request").addEventListener("submit", send);
  part("body").addEventListener("input", () => {
    state.edited.set(`${state.model} ${state.form}`, part("body").value);
    showCode();
  });
  part("body").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) part("request").requestSubmit();
  });
  part("reset").addEventListener("click", () => {
    state.edited.delete(`${state.model} ${state.form}`);
    showForm(state.form);
  });
  part("copy").addEventListener("click", copy);
  part("model").addEventListener("change", () => {
    history.replaceState(null, "", `#${encodeURIComponent(part("model").value)}`);
    showModel(part("model").value);
  });
  addEventListener("hashchange", () => fromAddress() && showModel(fromAddress()));
  choices(part("languages"), "language", LANGUAGES, state.language, (name) => {
    state.language = name;
    showCode();
  });
  try {
    readModels(await (await fetch("/openapi.json")).json());
  } catch (error) {
    notice(`The models could not be read: ${error.message}`);
    return;
  }
  if (state.models.size === 0) {
    notice("No model is served yet.");
    return;
  }
  part("model").replaceChildren(...[...state.models.keys()].map((name) => new Option(name, name)));
  showModel(fromAddress() ?? state.models.keys().next().value);
}

function notice(text) {
  part("notice").hidden = false;
  part("notice").textContent = text;
}

start();
