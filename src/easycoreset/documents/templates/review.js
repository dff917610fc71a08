for (const box of document.querySelectorAll(".review")) {
  const given = JSON.parse(box.querySelector(".review-data").textContent);
  const [PART, ID, LABEL, DIGEST, THUMBNAIL, ORIGINAL] = [0, 1, 2, 3, 4, 5], [KIND, PICTURE, SCORE, SUGGESTION, OTHER] = [0, 1, 2, 3, 4];
  const PAGE = 100, ALL = "", storage = `easycoreset:${given.fingerprint}`, find = name => box.querySelector(name);
  const keyOf = picture => `${picture[PART]}/${picture[ID]}`, positions = new Map(given.pictures.map((picture, position) => [keyOf(picture), position]));
  let decisions = new Map(), shown = [], page = 0, viewed = 0;

  const decided = position => decisions.get(position) || { out: false, label: "" };
  function decide(position, change) {
    const decision = Object.assign({}, decided(position), change);
    if (decision.label === given.pictures[position][LABEL]) decision.label = "";
    if (decision.out || decision.label) decisions.set(position, decision); else decisions.delete(position);
  }
  function toRecord() {  // decisions from before the audit are about pictures and labels that it did not see any more
    const before = new Map(given.earlier.map(one => [`${one.part}/${one.sample_id}`, one]));
    const list = [...decisions].sort((a, b) => a[0] - b[0]).map(([position, decision]) => {
      const picture = given.pictures[position];
      const earlier = before.get(keyOf(picture)), label = earlier && earlier.right_label === picture[LABEL] ? earlier.label : picture[LABEL];
      const record = { part: picture[PART], sample_id: picture[ID], digest: picture[DIGEST], label };
      if (decision.out) record.leave_out = true;
      if (decision.label) record.right_label = decision.label;
      before.delete(keyOf(picture));
      return record;
    });
    list.push(...before.values());
    return { format: given.format, version: given.version, data: given.data, fingerprint: given.fingerprint, decisions: list };
  }
  function fromRecord(record) {  // returns how many of its decisions are about pictures of this page
    if (!record || record.format !== given.format || !Array.isArray(record.decisions)) throw new Error("this is no file of decisions");
    let taken = 0;
    for (const one of record.decisions) {
      const position = positions.get(`${one.part}/${one.sample_id}`);
      if (position === undefined || given.pictures[position][DIGEST] !== one.digest) continue;
      decide(position, { out: one.leave_out === true, label: typeof one.right_label === "string" ? one.right_label : "" });
      taken += 1;
    }
    return taken;
  }
  function keep() {
    try { localStorage.setItem(storage, JSON.stringify(toRecord())); } catch { find(".said").textContent = "This browser keeps nothing: save the decisions as a file before you leave."; }
    const out = [...decisions.values()].filter(decision => decision.out).length;
    const relabelled = [...decisions.values()].filter(decision => decision.label && !decision.out).length;
    find(".count").textContent = `${out} left out, ${relabelled} with another label`;
    for (const name of [".save", ".csv", ".forget"]) find(name).disabled = decisions.size === 0;
  }
  function download(text, name, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  function make(tag, attributes, ...children) {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  }
  function fill(select, chosen, names) { select.replaceChildren(...names.map(([value, text]) => make("option", { value, textContent: text, selected: value === chosen }))); }
  function controls(position, suggestion) {  // the box and the menu of one picture
    const picture = given.pictures[position], decision = decided(position);
    const tick = make("input", { type: "checkbox", checked: decision.out });
    tick.setAttribute("aria-label", `leave out ${picture[ID]}`);
    tick.addEventListener("change", () => { decide(position, { out: tick.checked }); keep(); refresh(position); });
    const menu = make("select", {}), first = [["", picture[LABEL]]];
    menu.setAttribute("aria-label", `right label of ${picture[ID]}`);
    const some = [suggestion, decision.label].filter(name => name && name !== picture[LABEL]);
    fill(menu, decision.label, [...first, ...[...new Set(some)].map(name => [name, name])]);
    const open = () => { if (menu.length < given.classes.length) fill(menu, decided(position).label, [...first, ...given.classes.filter(name => name !== picture[LABEL]).map(name => [name, name])]); };
    menu.addEventListener("focus", open);
    menu.addEventListener("pointerdown", open);
    menu.addEventListener("change", () => { decide(position, { label: menu.value }); keep(); refresh(position); });
    const part = make("div", { className: "decision" }, make("label", {}, tick, " leave out"), make("label", {}, "label ", menu));
    if (suggestion && suggestion !== picture[LABEL]) {
      const chosen = decision.label === suggestion, button = make("button", { type: "button", textContent: `it is ${suggestion}` });
      button.setAttribute("aria-pressed", String(chosen));
      button.addEventListener("click", () => { decide(position, { label: chosen ? "" : suggestion }); keep(); refresh(position); });
      part.append(button);
    }
    part.dataset.position = position;
    part.classList.toggle("out", decision.out);
    part.classList.toggle("relabelled", Boolean(decision.label));
    return part;
  }
  function refresh(position) {  // a picture may be shown several times
    for (const old of box.querySelectorAll(`.decision[data-position="${position}"]`)) {
      const focused = old.contains(document.activeElement) ? document.activeElement.tagName : "";
      const issue = given.issues.find(one => one[PICTURE] === position);
      const renewed = controls(position, issue ? issue[SUGGESTION] : null);
      old.replaceWith(renewed);
      if (focused) renewed.querySelector(focused.toLowerCase()).focus();
    }
  }
  function describe(issue) {
    const picture = given.pictures[issue[PICTURE]];
    const suggestion = issue[SUGGESTION] ? `; looks like ${issue[SUGGESTION]}` : "";
    const score = `${(100 * issue[SCORE]).toFixed(0)}%`, what = issue[SUGGESTION] ? `wrong with ${score}` : issue[SCORE] < 1 ? `${issue[KIND]} ${score}` : issue[KIND];
    return `${what}: labelled ${picture[LABEL]}${suggestion}${picture[PART] === "train" ? "" : ` (${picture[PART]} part)`}`;
  }
  function figure(position, issue, place, text) {
    const picture = given.pictures[position], image = make("img", { src: picture[THUMBNAIL], alt: text, loading: "lazy" });
    const button = make("button", { type: "button", className: "picture", title: "see it in its own size" }, image);
    button.addEventListener("click", () => view(place));
    return make("div", { className: "one" }, button, make("div", { className: "name", textContent: picture[ID], title: picture[ID] }), make("div", { className: "what", textContent: text }), controls(position, issue[SUGGESTION]));
  }
  function card(issue, place) {
    const card = make("li", { className: "card" }, figure(issue[PICTURE], issue, place, describe(issue)));
    if (issue[OTHER] !== null) {
      const other = given.pictures[issue[OTHER]];
      card.append(figure(issue[OTHER], [issue[KIND], issue[OTHER], 1, null, null], place, `the same picture: labelled ${other[LABEL]}${other[PART] === "train" ? "" : ` (${other[PART]} part)`}`));
      card.classList.add("pair");
    }
    return card;
  }
  function draw() {
    const start = page * PAGE, pages = Math.max(1, Math.ceil(shown.length / PAGE));
    find(".cards").replaceChildren(...shown.slice(start, start + PAGE).map((issue, offset) => card(issue, start + offset)));
    const where = shown.length ? `${start + 1} to ${Math.min(start + PAGE, shown.length)} of ${shown.length}` : "none";
    box.querySelectorAll(".where").forEach(output => { output.textContent = where; });
    box.querySelectorAll(".before").forEach(button => { button.disabled = page === 0; });
    box.querySelectorAll(".after").forEach(button => { button.disabled = page >= pages - 1; });
  }
  function choose() {
    const kind = find(".kinds").value, name = find(".classes").value, part = find(".parts").value;
    shown = given.issues.filter(issue => {
      const picture = given.pictures[issue[PICTURE]];
      return issue[KIND] === kind && (name === ALL || picture[LABEL] === name) && (part === ALL || picture[PART] === part);
    });
    page = 0;
    find(".meaning").textContent = given.kinds[kind] || "";
    find(".all-suggested").hidden = kind !== "label" || !shown.some(issue => issue[SUGGESTION]);
    draw();
  }
  function view(place) {
    viewed = place;
    const issue = shown[place], picture = given.pictures[issue[PICTURE]], image = find(".viewer img");
    const caption = note => { find(".viewer figcaption").textContent = `${picture[ID]} — ${describe(issue)}${note}`; };
    image.onerror = () => { image.onerror = null; image.src = picture[THUMBNAIL]; caption(" — the original is not at hand: this is the thumbnail"); };
    image.src = picture[ORIGINAL] || picture[THUMBNAIL];
    image.alt = picture[ID];
    caption("");
    find(".viewer-decision").replaceChildren(controls(issue[PICTURE], issue[SUGGESTION]));
    if (!find(".viewer").open) find(".viewer").showModal();
  }
  const go = step => { if (shown[viewed + step]) view(viewed + step); };
  find(".viewer .previous").addEventListener("click", () => go(-1));
  find(".viewer .next").addEventListener("click", () => go(1));
  find(".viewer").addEventListener("keydown", event => {
    if (event.target.tagName === "SELECT") return;
    if (event.key === "ArrowRight") go(1);
    else if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "x" || event.key === "X") { const position = shown[viewed][PICTURE]; decide(position, { out: !decided(position).out }); keep(); refresh(position); }
  });
  find(".viewer").addEventListener("close", () => { const wanted = Math.floor(viewed / PAGE); if (wanted !== page) { page = wanted; draw(); } });
  const all = change => { shown.forEach(issue => decide(issue[PICTURE], change(issue))); keep(); draw(); };
  find(".all-out").addEventListener("click", () => all(() => ({ out: true })));
  find(".all-suggested").addEventListener("click", () => all(issue => (issue[SUGGESTION] ? { label: issue[SUGGESTION] } : {})));
  find(".all-undo").addEventListener("click", () => all(() => ({ out: false, label: "" })));
  box.querySelectorAll(".before").forEach(button => button.addEventListener("click", () => { page -= 1; draw(); box.scrollIntoView(); }));
  box.querySelectorAll(".after").forEach(button => button.addEventListener("click", () => { page += 1; draw(); box.scrollIntoView(); }));
  find(".save").addEventListener("click", () => download(JSON.stringify(toRecord(), null, 1) + "\n", "decisions.json", "application/json"));
  find(".csv").addEventListener("click", () => {
    const quote = text => { const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };
    const rows = toRecord().decisions.map(one => [one.part, one.sample_id, one.label, one.right_label || "", one.leave_out ? "yes" : ""].map(quote).join(","));
    download(["part,sample_id,label,right_label,leave_out", ...rows].join("\r\n") + "\r\n", "decisions.csv", "text/csv");
  });
  find(".forget").addEventListener("click", () => { if (confirm("Forget all decisions?")) { decisions = new Map(); keep(); draw(); } });
  find(".read").addEventListener("change", async event => {
    const file = event.target.files[0];
    if (!file) return;
    try {
      const record = JSON.parse(await file.text()), taken = fromRecord(record), others = record.decisions.length - taken;
      find(".said").textContent = `${taken} decisions read${others ? `; ${others} are about pictures that are not here, or have changed` : ""}`;
    } catch (error) { find(".said").textContent = `${file.name}: ${error.message}`; }
    event.target.value = "";
    keep();
    draw();
  });
  try { const kept = localStorage.getItem(storage); if (kept) fromRecord(JSON.parse(kept)); } catch { /* another page's, or none is kept */ }
  const counts = new Map();
  given.issues.forEach(issue => counts.set(issue[KIND], (counts.get(issue[KIND]) || 0) + 1));
  fill(find(".kinds"), "", [...counts].map(([kind, count]) => [kind, `${kind} (${count})`]));
  fill(find(".classes"), ALL, [[ALL, "all"], ...given.classes.map(name => [name, name])]);
  const parts = [...new Set(given.pictures.map(picture => picture[PART]))];
  fill(find(".parts"), ALL, [[ALL, "all"], ...parts.map(name => [name, name])]);
  for (const name of [".kinds", ".classes", ".parts"]) find(name).addEventListener("change", choose);
  find(".kinds").selectedIndex = 0;
  keep();
  choose();
}
