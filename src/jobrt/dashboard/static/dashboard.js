// Keep the live parts of a page fresh while somebody looks at it. Without this script the pages work all the same.
"use strict";

(() => {
  const EVERY = 2000; // milliseconds; ten times what an answer takes, if that is longer
  const parts = () => document.querySelectorAll("[data-live]");
  const said = document.getElementById("connection");
  const pause = document.getElementById("pause");
  const seen = new Map(); // what the server has last sent of each part
  let timer = 0;
  let asking = null;
  let pressed = false; // a mouse button or a key is down: what it is on must be there when it comes up

  const say = (text) => {
    said.textContent = text;
    said.hidden = !text;
  };

  // A part in which somebody writes, chooses or marks text stays until they are done.
  const isBusy = (part) => {
    const here = document.activeElement;
    const marked = getSelection();
    return (!marked.isCollapsed && part.contains(marked.anchorNode))
      || (part.contains(here) && here.matches("input:not([type=checkbox]), select, textarea"));
  };

  const replace = (old, fresh) => {
    const ticked = new Set([...old.querySelectorAll("input[type=checkbox]:checked")].map((one) => one.value));
    const unfolded = new Map([...old.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.matches("a[href]")
      ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : focused.matches("input[name=id]")
        ? `input[name=id][value="${focused.value}"]` : "");
    const scrolled = [...old.querySelectorAll(".scroll, pre")].map((one) => one.scrollLeft);
    for (const box of fresh.querySelectorAll("input[type=checkbox]")) box.checked = ticked.has(box.value);
    for (const one of fresh.querySelectorAll("details[id]")) {
      if (unfolded.has(one.id)) one.open = unfolded.get(one.id);
    }
    old.replaceWith(fresh);
    [...fresh.querySelectorAll(".scroll, pre")].forEach((one, place) => { one.scrollLeft = scrolled[place] ?? 0; });
    if (key) fresh.querySelector(key)?.focus({ preventScroll: true });
    enhance();
  };

  const show = (text) => {
    if (pressed) return;
    const sent = new DOMParser().parseFromString(text, "text/html");
    for (const fresh of sent.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || isBusy(old) || seen.get(fresh.id) === fresh.outerHTML) continue;
      seen.set(fresh.id, fresh.outerHTML);
      replace(old, document.adoptNode(fresh));
    }
  };

  const refresh = async () => {
    const began = performance.now();
    asking = new AbortController();
    try {
      const answer = await fetch(location.href, {
        headers: { "x-jobrt-live": "1" }, cache: "no-store", signal: asking.signal,
      });
      const text = await answer.text();
      if (answer.ok) show(text);
      say(answer.ok ? "" : `${text} (shown is how things stood before)`);
    } catch (error) {
      if (error.name === "AbortError") return;
      say("The server does not answer. Shown is how things stood before; trying again.");
    }
    schedule(Math.max(EVERY, 10 * (performance.now() - began)));
  };

  const stop = () => {
    clearTimeout(timer);
    asking?.abort();
  };

  const schedule = (wait) => {
    clearTimeout(timer);
    if (!document.hidden && pause.getAttribute("aria-pressed") !== "true") timer = setTimeout(refresh, wait);
  };

  const enhance = () => {
    const all = document.getElementById("tick-all");
    if (!all) return;
    const boxes = [...document.querySelectorAll("input[name=id][type=checkbox]")];
    const count = () => {
      const ticked = boxes.filter((one) => one.checked).length;
      document.getElementById("ticked").textContent = ticked ? `With ${ticked} ticked:` : "With ticked:";
      all.checked = ticked > 0 && ticked === boxes.length;
      all.indeterminate = ticked > 0 && ticked < boxes.length;
    };
    all.hidden = false;
    all.onchange = () => {
      for (const one of boxes) one.checked = all.checked;
      count();
    };
    for (const one of boxes) one.onchange = count;
    count();
  };

  for (const part of parts()) seen.set(part.id, part.outerHTML);
  enhance();
  if (!parts().length) return;
  for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => { pressed = true; }, true);
  for (const name of ["pointerup", "pointercancel", "keyup"]) addEventListener(name, () => { pressed = false; }, true);
  addEventListener("blur", () => { pressed = false; }); // the window's: what comes up elsewhere is not told
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Paused" : "Live";
    stop();
    schedule(0);
  });
  document.addEventListener("visibilitychange", () => {
    stop();
    schedule(0);
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => { if (event.persisted) schedule(0); });
  schedule(EVERY);
})();
