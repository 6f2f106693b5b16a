// What changes while a page is open, and the keys. Every page works without this.
"use strict";
(() => {
  const main = document.getElementById("main");
  const state = document.getElementById("live-state");

  // Live parts: the server sends an element, which takes the place of the one with its
  // id, or goes to the end of the list that it names.
  const opened = new WeakMap(); // whether it came open
  const came = (el) => { for (const d of [el, ...el.querySelectorAll("details")]) opened.set(d, d.open); };
  const put = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const next = holder.content.firstElementChild;
    if (!next || !next.id) return;
    const old = document.getElementById(next.id);
    if (!old) {
      const list = next.dataset.into && document.getElementById(next.dataset.into);
      if (list) { came(next); list.append(next); }
      return;
    }
    // What a person opened, wrote or stands on stays.
    const open = new Map([...old.querySelectorAll("details[id]")].filter((d) => d.open !== opened.get(d)).map((d) => [d.id, d.open]));
    const texts = new Map([...old.querySelectorAll("input[id], textarea[id], select[id]")].filter((f) => f.value !== f.defaultValue).map((f) => [f.id, f.value]));
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focus && (focus.id || focus.getAttribute("href") || "");
    const caret = focus && "selectionStart" in focus ? [focus.selectionStart, focus.selectionEnd] : null;
    came(next);
    old.replaceWith(next);
    for (const d of next.querySelectorAll("details[id]")) if (open.has(d.id)) d.open = open.get(d.id);
    for (const [id, text] of texts) { const f = document.getElementById(id); if (f) f.value = text; }
    if (!focus) return;
    const again = key && (document.getElementById(key) || next.querySelector(`a[href="${CSS.escape(key)}"]`));
    (again || main).focus({ preventScroll: true });
    if (again && caret) try { again.setSelectionRange(...caret); } catch { /* a field without a caret */ }
  };

  if (main) came(main);
  if (main && main.dataset.live && "EventSource" in window) {
    let source = null, last = "", failed = 0, timer = 0;
    const say = (text, on) => { state.textContent = text; state.hidden = false; state.classList.toggle("on", on); };
    const open = () => {
      clearTimeout(timer);
      if (source || document.hidden) return;
      const url = new URL(main.dataset.live, location.href);
      if (last) url.searchParams.set("after", last);
      source = new EventSource(url);
      source.onopen = () => { failed = 0; say("live", true); };
      source.addEventListener("part", (e) => { last = e.lastEventId || last; put(e.data); ago(); });
      source.onerror = () => {
        say("reconnecting", false);
        if (source && source.readyState === EventSource.CLOSED) {
          shut();
          failed++;
          timer = setTimeout(open, Math.min(60000, 2000 * 2 ** failed));
        }
      };
    };
    const shut = () => { if (source) source.close(); source = null; };
    // A page that nobody sees holds no connection: a browser has few of them.
    document.addEventListener("visibilitychange", () => { if (document.hidden) { shut(); clearTimeout(timer); } else open(); });
    addEventListener("pagehide", shut);
    addEventListener("pageshow", open);
    open();
  }

  // How long ago something was.
  const ago = () => {
    for (const t of document.querySelectorAll("time[data-ago]")) {
      const s = (Date.now() - Date.parse(t.dateTime)) / 1000, a = Math.abs(s);
      if (a < 60 || a > 172800) continue;
      const text = a < 3600 ? `${Math.floor(a / 60)} min` : `${Math.floor(a / 3600)} h`;
      t.textContent = s > 0 ? `${text} ago` : `in ${text}`;
    }
  };
  if (main && main.dataset.live) setInterval(ago, 30000);

  // A form is sent once, even by two quick presses.
  document.addEventListener("submit", (e) => {
    if (e.target.dataset.sent) { e.preventDefault(); return; }
    if (!("once" in e.target.dataset)) return;
    e.target.dataset.sent = "yes";
    for (const b of e.target.querySelectorAll("button")) b.setAttribute("aria-disabled", "true");
  });
  addEventListener("pageshow", () => {
    for (const f of document.querySelectorAll("form[data-sent]")) {
      delete f.dataset.sent;
      for (const b of f.querySelectorAll("button")) b.removeAttribute("aria-disabled");
    }
  });

  // A piece of evidence that a link leads to is opened, with what it lies in.
  const reveal = () => {
    let el = null;
    try { el = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    for (let d = el; d; d = d.parentElement) if (d.tagName === "DETAILS") d.open = true;
    if (el && el.tagName === "DETAILS") { el.scrollIntoView(); el.querySelector("summary").focus(); }
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (e) => {
    const a = e.target.closest && e.target.closest('a[href^="#"]');
    if (a && a.getAttribute("href") === location.hash) reveal();
  });
  reveal();

  // "@" in a question offers objects of the cluster.
  const q = document.querySelector("[data-question]"), box = document.getElementById("choices");
  if (q && box) {
    document.getElementById("choices-hint").hidden = false;
    let timer = 0, asked = null;
    const word = () => { const m = /(?:^|\s)@(\S*)$/.exec(q.value.slice(0, q.selectionEnd)); return m ? m[1] : null; };
    const options = () => [...box.querySelectorAll("[role=option]")];
    const at = () => options().findIndex((o) => o.getAttribute("aria-selected") === "true");
    const close = () => { clearTimeout(timer); asked = null; box.hidden = true; box.textContent = ""; q.removeAttribute("aria-activedescendant"); };
    const mark = (i) => {
      const all = options();
      if (!all.length) return;
      const o = all[(i + all.length) % all.length];
      for (const x of all) x.setAttribute("aria-selected", String(x === o));
      q.setAttribute("aria-activedescendant", o.id);
      o.scrollIntoView({ block: "nearest" });
    };
    const pick = (o) => { const end = q.selectionEnd, w = word(); if (w !== null) q.setRangeText(o.dataset.insert + " ", end - w.length - 1, end, "end"); close(); };
    const look = async () => {
      const w = word();
      if (w === null || w === asked) { if (w === null) close(); return; }
      asked = w;
      try {
        const res = await fetch("/objects?prefix=" + encodeURIComponent(w)), html = await res.text();
        if (w !== word() || document.activeElement !== q) return;
        if (!res.ok || res.redirected) { close(); return; }
        box.innerHTML = html;
        box.hidden = false;
        mark(0);
      } catch { close(); }
    };
    q.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 150); });
    q.addEventListener("blur", close);
    q.addEventListener("keydown", (e) => {
      if (box.hidden || e.ctrlKey || e.metaKey || e.altKey) return;
      const i = at();
      if (e.key === "Escape") close();
      else if (e.key === "ArrowDown" && i >= 0) mark(i + 1);
      else if (e.key === "ArrowUp" && i >= 0) mark(i - 1);
      else if ((e.key === "Enter" || e.key === "Tab") && i >= 0) pick(options()[i]);
      else return;
      e.preventDefault();
      e.stopPropagation();
    });
    box.addEventListener("mousedown", (e) => e.preventDefault()); // the question keeps the focus
    box.addEventListener("click", (e) => { const o = e.target.closest("[role=option]"); if (o) pick(o); });
  }

  // Keys.
  const pages = { i: "/sessions", a: "/approvals", p: "/plans", u: "/audit", s: "/status" };
  let went = 0;
  const step = (by) => {
    const items = [...document.querySelectorAll("[data-rows] > li > a, [data-rows] > li summary, .look > summary")].filter((x) => x.offsetParent);
    if (!items.length) return;
    const at = items.indexOf(document.activeElement);
    items[Math.min(Math.max(at < 0 ? (by > 0 ? 0 : items.length - 1) : at + by, 0), items.length - 1)].focus();
  };
  document.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && e.target.matches("[data-question]")) { e.target.form.requestSubmit(); return; }
    if (e.key === "Escape" && e.target.matches("input, textarea, select")) { e.target.blur(); return; }
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, textarea, select") || e.target.isContentEditable) return;
    if (Date.now() - went < 1500 && pages[e.key]) { went = 0; location.href = pages[e.key]; return; }
    went = 0;
    const focus = (q) => { const f = document.querySelector(q); if (f) { e.preventDefault(); f.focus(); f.scrollIntoView({ block: "nearest" }); } return f; };
    switch (e.key) {
      case "g": went = Date.now(); break;
      case "?": { const k = document.getElementById("keys"); k.open = !k.open; if (k.open) { k.querySelector("summary").focus(); k.scrollIntoView({ block: "end" }); } break; }
      case "/": focus("[data-find]"); break;
      case "n": if (!focus("[data-question]")) location.href = "/sessions#ask"; break;
      case "j": step(1); break;
      case "k": step(-1); break;
      case "e": focus(".look > summary"); break;
    }
  });
})();
