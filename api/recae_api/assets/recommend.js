"use strict";

const element = (id) => document.getElementById(id);
const form = element("ask");
const SOURCES = {
  model: "from the stored history",
  fold_in: "from these items",
  popularity: "nobody known: what most people chose",
};

function headers() {
  const key = form.elements.key.value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function ask(path) {
  const response = await fetch(path, { headers: headers() });
  const answer = await response.json();
  if (response.status === 401) element("for-key").hidden = false;
  if (!response.ok) throw new Error(`${answer.title}: ${answer.detail}`);
  return answer;
}

function fail(error) {
  element("answer").hidden = true;
  element("wrong").textContent = error.message;
  element("wrong").hidden = false;
}

function cell(row, text, className) {
  const added = row.insertCell();
  added.textContent = text;
  if (className) added.className = className;
}

function show(answer, path) {
  element("wrong").hidden = true;
  element("model").textContent = `${answer.model.name} ${answer.model.version}`;
  const count = answer.items.length;
  const items = count === 1 ? "1 item" : `${count || "No"} items`;
  element("heading").textContent = `${items}, ${SOURCES[answer.source]}`;
  element("warnings").textContent = answer.warnings.join("; ");
  const titled = answer.items.some((item) => item.title !== null);
  element("title-head").hidden = !titled;
  element("items").replaceChildren();
  for (const item of answer.items) {
    const row = element("items").insertRow();
    cell(row, item.rank, "number");
    cell(row, item.item);
    if (titled) cell(row, item.title ?? "");
    cell(row, item.score.toPrecision(4), "number");
  }
  element("asked").textContent = `GET ${path}`;
  element("answer").hidden = false;
}

form.addEventListener("change", () => {
  const byUser = form.elements.who.value === "user";
  element("for-user").hidden = !byUser;
  element("for-history").hidden = byUser;
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = new URLSearchParams();
  if (form.elements.who.value === "user") {
    asked.append("user", form.elements.user.value);
  } else {
    for (const line of form.elements.history.value.split("\n")) {
      if (line) asked.append("history", line);
    }
  }
  asked.append("k", form.elements.k.value);
  if (form.elements.popular.checked) asked.append("fallback", "popular");
  const path = `recommend?${asked}`;
  try {
    show(await ask(path), `/${path}`);
  } catch (error) {
    fail(error);
  }
});

ask("v1/model").then(
  (model) => {
    element("model").textContent = `${model.name} ${model.version}, ${model.items} items`;
  },
  () => {}, // without a key there is nothing to tell yet
);
