"use strict";
(() => {
  const { words, size, documents } = JSON.parse(document.getElementById("data").textContent);
  const panel = document.getElementById("token");
  const atRest = [...panel.childNodes];
  const texts = [...document.querySelectorAll(".text")];
  const places = texts.map(() => 0);
  const known = new Map();
  let shown = null, pinned = false;

  const spansOf = (text) => {
    if (!known.has(text)) {
      const list = [...text.querySelectorAll("span")];
      known.set(text, { list, at: new Map(list.map((span, place) => [span, place])) });
    }
    return known.get(text);
  };
  const make = (name, text, kind) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const percent = (p) => {
    if (p === 0) return "0 %";
    const number = 100 * p;
    return (number >= 0.01 ? number.toPrecision(3) : number.toExponential(1)) + " %";
  };

  const describe = (found, token) => {
    const p = Math.exp(-found.nll[token]);
    const parts = [make("h2", words[found.word[token]])];
    parts.push(make("p", "rank " + found.rank[token].toLocaleString("en") + " of " + size.toLocaleString("en") +
      ", probability " + percent(p)));
    parts.push(make("p", found.nll[token].toFixed(2) + " nats; entropy of the prediction " +
      found.entropy[token].toFixed(2) + " nats", "bytes"));
    const list = make("ol");
    list.setAttribute("aria-label", "What the model thought likeliest here");
    const top = found.top[token];
    for (let at = 0; at < top.length; at += 2) {
      const row = make("li", undefined, top[at] === found.word[token] ? "it" : "");
      const bar = make("u");
      bar.style.width = 100 * top[at + 1] / Math.max(top[1], 1e-30) + "%";
      row.append(bar, make("b", words[top[at]]), make("span", percent(top[at + 1])));
      list.append(row);
    }
    parts.push(list);
    return parts;
  };

  const show = (text, place, scroll) => {
    const number = texts.indexOf(text), found = documents[number], { list } = spansOf(text);
    const first = found.starts[place], stop = place + 1 < found.starts.length ? found.starts[place + 1] : found.word.length;
    const parts = [];
    if (stop - first > 1) parts.push(make("p", list[place].textContent + " is made of " + (stop - first) + " tokens:"));
    for (let token = first; token < stop; token += 1) parts.push(...describe(found, token));
    panel.replaceChildren(...parts);
    panel.classList.add("open");
    panel.scrollTop = 0;
    if (shown) shown.classList.remove("on");
    shown = list[place];
    shown.classList.add("on");
    places[number] = place;
    if (scroll) shown.scrollIntoView({ block: "nearest" });
  };
  const clear = () => {
    pinned = false;
    if (shown) shown.classList.remove("on");
    shown = null;
    panel.classList.remove("open");
    panel.replaceChildren(...atRest);
  };

  texts.forEach((text, number) => {
    const placeOf = (target) => spansOf(text).at.get(target instanceof Element ? target.closest(".text > span") : null);
    text.addEventListener("pointerover", (event) => {
      const place = placeOf(event.target);
      if (!pinned && event.pointerType !== "touch" && place !== undefined) show(text, place, false);
    });
    text.addEventListener("click", (event) => {
      const place = placeOf(event.target);
      if (place === undefined) return;
      event.stopPropagation();
      if (pinned && shown === spansOf(text).list[place]) clear();
      else { pinned = true; show(text, place, false); }
    });
    text.addEventListener("focus", () => {
      if (text.matches(":focus-visible")) { pinned = true; show(text, places[number], true); }
    });
    text.addEventListener("keydown", (event) => {
      const { list } = spansOf(text), here = places[number], last = list.length - 1;
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      let next = { Home: 0, End: last }[event.key];
      if (step) {
        next = here + step;
        while (event.shiftKey && next > 0 && next < last && list[next].className[0] !== "d") next += step;
      }
      if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      pinned = true;
      show(text, Math.min(last, Math.max(0, next)), true);
    });
  });
  document.addEventListener("click", (event) => { if (!panel.contains(event.target)) clear(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
})();
