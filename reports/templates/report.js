"use strict";
(() => {
  const { config, tokens, report } = JSON.parse(document.getElementById("report-data").textContent);
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  // figures carry colour tokens, so that one figure serves light, dark and paper
  const paint = (value, dark) => {
    if (typeof value === "string") return tokens[value] ? tokens[value][dark ? 1 : 0] : value;
    if (Array.isArray(value)) return value.map((v) => paint(v, dark));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, paint(v, dark)]));
    }
    return value;
  };

  const fit = (layout, width) => {
    layout.font = { ...layout.font, family: getComputedStyle(document.body).fontFamily };
    if (width < 560) {
      layout.margin = { ...layout.margin, l: Math.min(layout.margin?.l ?? 40, 44), r: 8 };
      layout.legend = { ...layout.legend, font: { size: 11 } };
      for (const [key, axis] of Object.entries(layout)) {
        const beside = key.startsWith("xaxis") && axis.domain && axis.domain[1] - axis.domain[0] < 0.5;
        if (beside) Object.assign(axis, { nticks: 3, tickfont: { ...axis.tickfont, size: 10 } });
      }
    }
    return layout;
  };

  const draw = (dark, width) => {
    if (typeof Plotly === "undefined") return;
    for (const plot of plots) {
      const { spec } = report.sections[plot.dataset.section].figures[plot.dataset.figure];
      const figure = paint(spec, dark);
      const layout = fit(figure.layout, width ?? plot.clientWidth);
      if (width) layout.width = width;
      Plotly.react(plot, figure.data, layout, { ...config, displayModeBar: plot.clientWidth < 560 ? false : "hover" });
    }
  };

  const button = document.getElementById("theme");
  const names = { "": "system", light: "light", dark: "dark" };
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = { "": isDark() ? "light" : "dark", light: "dark", dark: "" }[root.dataset.theme ?? ""];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    button.textContent = `Theme: ${names[next]}`;
    draw(isDark());
  });
  system.addEventListener("change", () => draw(isDark()));

  // paper is light, has no scroll bars and shows every data table
  const closed = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = closed();
    for (const details of opened) details.open = true;
    draw(false, 660);
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    draw(isDark());
  });

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.getAttribute("href").slice(1), a]));
  const seen = new IntersectionObserver(
    (entries) => {
      const entry = entries.find((e) => e.isIntersecting);
      if (!entry) return;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    },
    { rootMargin: "0px 0px -70% 0px" },
  );
  for (const section of document.querySelectorAll("main section")) seen.observe(section);

  draw(isDark());
})();
