// Keys of the page that settles a waiting case. Without this script the page is a plain form.
const form = document.getElementById("settle");
const whole = document.getElementById("whole");
let sent = false;

// A field is an input, a list, or a group of choices; hidden ones in a closed part are passed over.
function fields() {
  return [...form.querySelectorAll("[data-field]")].filter((field) => !field.closest("details:not([open])"));
}

function enter(field) {
  const target = field.matches("fieldset")
    ? field.querySelector("input:checked") || field.querySelector("input")
    : field;
  target.focus({ preventScroll: true });
  if (target.setSelectionRange && target.type !== "radio") {
    target.setSelectionRange(target.value.length, target.value.length);
  }
  (field.closest(".look") || field).scrollIntoView({ block: "nearest" });
}

const groups = form.dataset.variants.split(" ").map((group) => Array.from(group));

// The character before the caret, or else the first that has a variant, becomes the next of its group.
function swap(field) {
  const before = Array.from(field.value.slice(0, field.selectionStart));
  const after = Array.from(field.value.slice(field.selectionStart));
  const all = [...before, ...after];
  const has = (index) => groups.find((group) => group.includes(all[index]));
  let at = before.length - 1;
  if (at < 0 || !has(at)) {
    at = all.findIndex((_, index) => has(index));
  }
  if (at < 0) {
    return;
  }
  const group = has(at);
  all[at] = group[(group.indexOf(all[at]) + 1) % group.length];
  field.value = all.join("");
  const caret = all.slice(0, at + 1).join("").length;
  field.setSelectionRange(caret, caret);
}

for (const swaps of form.querySelectorAll(".swaps")) {
  swaps.hidden = false;
  swaps.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) {
      const field = swaps.parentElement.querySelector("[data-field]");
      field.value = field.value.includes(button.dataset.from)
        ? field.value.replace(button.dataset.from, button.dataset.to)
        : field.value.replace(button.dataset.to, button.dataset.from);
      field.focus();
    }
  });
}

// Name, letter, first and last day, year in which it began.
const eras = form.dataset.eras.split(" ").map((era) => era.split(","));

// The day that a text writes, as 2025-03-01; "" when this cannot tell: the server reads more writings than this.
function dayOf(text) {
  const plain = text.normalize("NFKC").replace(/\s/g, "").toUpperCase();
  const parts = /^(.*?)(\d{1,4}|元)(?:年(\d{1,2})月(\d{1,2})日|([./-])(\d{1,2})\5(\d{1,2}))$/.exec(plain);
  if (!parts) {
    return "";
  }
  const name = parts[1].replace(/\.$/, "").replace(/^西暦$/, "");
  const at = eras.findIndex(([full, letter]) => name === full || name === letter || name === full[0]);
  if (name && (at < 0 || parts[2].length > 2)) {
    return "";
  }
  const era = name ? eras[at] : null;
  const count = parts[2] === "元" ? 1 : Number(parts[2]);
  const year = era ? Number(era[4]) + count - 1 : count;
  const month = Number(parts[3] || parts[6]);
  const date = Number(parts[4] || parts[7]);
  const day = new Date(Date.UTC(year, month - 1, date));
  const fits = year >= 1000 && day.getUTCMonth() + 1 === month && day.getUTCDate() === date;
  const iso = fits ? day.toISOString().slice(0, 10) : "";
  const outside = era && (iso < era[2] || iso > era[3]);
  return outside ? "" : iso;
}

for (const field of form.querySelectorAll("[data-date]")) {
  const echo = field.parentElement.querySelector("[data-echo]");
  const show = () => {
    echo.textContent = dayOf(field.value);
  };
  field.addEventListener("input", show);
  show();
}

function settle() {
  if (!sent) {
    form.requestSubmit();
  }
}

form.addEventListener("submit", (event) => {
  if (sent) {
    event.preventDefault();
    return;
  }
  sent = true;
  document.getElementById("go").setAttribute("aria-busy", "true");
});

// A page that comes back from the browser's memory can be sent again.
window.addEventListener("pageshow", () => {
  sent = false;
});

function showWhole() {
  if (whole.open) {
    whole.close();
    return;
  }
  for (const image of whole.querySelectorAll("img[data-src]")) {
    if (!image.src) {
      image.src = image.dataset.src;
    }
  }
  whole.showModal();
}

document.getElementById("whole-link").addEventListener("click", (event) => {
  event.preventDefault();
  showWhole();
});

document.addEventListener("keydown", (event) => {
  // Enter and Esc belong to the input method while it is converting.
  if (event.isComposing || event.keyCode === 229) {
    return;
  }
  if (event.key === "F2") {
    event.preventDefault();
    showWhole();
    return;
  }
  if (whole.open) {
    return;
  }
  if (event.key === "F9") {
    event.preventDefault();
    const refuse = document.getElementById("refuse");
    refuse.open = true;
    refuse.querySelector("select").focus();
    return;
  }
  if (event.key === "Enter" && event.ctrlKey && !event.target.closest("#refuse")) {
    event.preventDefault();
    settle();
    return;
  }
  const field = event.target.closest("[data-field]");
  if (!field || !form.contains(field)) {
    return;
  }
  const radio = event.target.type === "radio";
  if (event.key === "F8" && !radio && field.setSelectionRange) {
    event.preventDefault();
    swap(field);
    return;
  }
  if (event.key === "Enter") {
    event.preventDefault();
    const all = fields();
    const next = all.indexOf(field) + (event.shiftKey ? -1 : 1);
    if (next >= all.length) {
      settle();
    } else if (next >= 0) {
      enter(all[next]);
    }
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (radio) {
      for (const each of field.querySelectorAll("input")) {
        each.checked = each.value === "";
      }
    } else {
      field.value = "";
      field.dispatchEvent(new Event("input"));
    }
  } else if (radio && /^[0-9]$/.test(event.key)) {
    const chosen = field.querySelector(`input[data-key="${event.key}"]`);
    if (chosen) {
      event.preventDefault();
      chosen.checked = true;
      chosen.focus();
    }
  }
});

const wrong = form.querySelector("[aria-invalid]") || form.querySelector(".wrongly [data-field]");
const first = wrong || fields()[0];
const refusing = document.querySelector("#refuse[open] button");
if (refusing) {
  refusing.focus();
} else if (first) {
  enter(first.closest("[data-field]"));
} else {
  document.getElementById("go").focus();
}
