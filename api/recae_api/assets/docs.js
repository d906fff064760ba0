"use strict";

function made(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  const bounds = "minimum" in schema ? ` ${schema.minimum} to ${schema.maximum ?? "..."}` : "";
  return `${schema.type ?? "any"}${bounds}`;
}

function table(heads, rows) {
  const element = made("table");
  const head = element.createTHead().insertRow();
  for (const text of heads) head.append(made("th", text));
  const body = element.createTBody();
  for (const row of rows) {
    const added = body.insertRow();
    for (const text of row) added.insertCell().textContent = text;
  }
  return element;
}

function fields(entries) {
  return table(
    ["Name", "Type", "Default", "Meaning"],
    entries.map(([name, schema, meaning]) => [
      name,
      typeOf(schema),
      "default" in schema ? JSON.stringify(schema.default) : "",
      meaning ?? schema.description ?? "",
    ]),
  );
}

function operation(path, method, document_, schemas) {
  const details = made("details", undefined, "operation");
  const summary = made("summary");
  summary.append(
    made("span", method.toUpperCase(), "method"),
    made("code", path),
    made("span", ` ${document_.summary ?? ""}`, "hint"),
  );
  const inside = made("div");
  if (document_.parameters) {
    inside.append(made("h3", "Parameters"));
    inside.append(fields(document_.parameters.map((p) => [p.name, p.schema, p.description])));
  }
  const body = document_.requestBody?.content["application/json"]?.schema;
  if (body) {
    const { properties } = schemas[typeOf(body)];
    inside.append(made("h3", "JSON body"), fields(Object.entries(properties)));
  }
  inside.append(made("h3", "Answers"));
  inside.append(
    table(
      ["Status", "Body", "Meaning"],
      Object.entries(document_.responses).map(([status, response]) => {
        const [media, content] = Object.entries(response.content ?? {})[0] ?? ["", {}];
        const type = content.schema ? typeOf(content.schema) : "";
        return [status, media.endsWith("problem+json") ? media : type, response.description];
      }),
    ),
  );
  details.append(summary, inside);
  return details;
}

async function show() {
  const document_ = await (await fetch("openapi.json")).json();
  document.getElementById("about").textContent = document_.info.description;
  const operations = document.getElementById("operations");
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      operations.append(operation(path, method, described, document_.components.schemas));
    }
  }
  const problems = document.getElementById("problems");
  for (const [name, kind] of Object.entries(document_["x-problems"])) {
    const row = problems.insertRow();
    row.id = name;
    for (const text of [kind.status, name, kind.title]) row.insertCell().textContent = text;
  }
}

show();
