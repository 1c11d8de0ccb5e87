// What tests ask of an open report: functions without side effects, put into the page by browser.py.
window.plots = () => [...document.querySelectorAll(".plot")];
window.isDrawn = (plot) => plot.querySelector("svg.main-svg") !== null;

const box = (element) => element.getBoundingClientRect();
const shown = (element) => {
  const style = getComputedStyle(element);
  return element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && style.opacity !== "0";
};

// lines, bars, points and heat maps of a figure that have an extent and a colour; axes and grids are none
const MARKS = [".scatterlayer path", ".barlayer path", ".boxlayer path", ".violinlayer path", ".heatmaplayer image"];
window.marks = (plot) =>
  [...plot.querySelectorAll(MARKS.join())].filter((mark) => {
    const { width, height } = box(mark);
    const { fill, stroke } = getComputedStyle(mark);
    return width + height > 1 && (mark.tagName === "image" || fill !== "none" || stroke !== "none");
  });
window.emptyFigures = () => plots().filter((p) => marks(p).length === 0).map((p) => p.getAttribute("aria-label"));

// texts of a figure that lie on one another; of slanted ones the boxes say nothing
const slanted = (text) => /rotate\((?!0[,)]|-?90[,)])/.test(text.getAttribute("transform") ?? "");
const texts = (plot) =>
  [...plot.querySelectorAll("svg text")].filter((t) => t.textContent.trim() && shown(t) && !slanted(t));
window.overlaps = () => {
  const found = [];
  for (const plot of plots()) {
    const boxes = texts(plot).map((t) => [t.textContent, box(t)]);
    boxes.forEach(([a, p], i) => {
      for (const [b, q] of boxes.slice(i + 1)) {
        const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (across > 2 && down > 4) found.push(`${plot.getAttribute("aria-label")}: ${a} / ${b}`);
      }
    });
  }
  return found;
};

// elements that reach over the right edge and cannot be scrolled to
window.cutOff = () => {
  const edge = document.documentElement.clientWidth + 1;
  const inside = (e) => e.closest(".scroll, pre, nav, .skip, svg");
  return [...document.body.querySelectorAll("*")]
    .filter((e) => shown(e) && !inside(e) && box(e).width > 0 && box(e).right > edge)
    .map((e) => `${e.tagName}.${e.className} ${Math.round(box(e).right)}`);
};
window.pageWidth = () => document.documentElement.scrollWidth;

// ---- colours, as WCAG 2 reckons
const rgba = (color) => {
  const numbers = color.match(/[\d.]+/g).map(Number);
  return numbers.length < 4 ? [...numbers, 1] : numbers;
};
const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
const luminance = (color) => {
  const [r, g, b] = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
};
window.contrast = (element) => {
  const style = getComputedStyle(element);
  const paint = element.closest("svg") ? style.fill : style.color;
  const ground = behind(element.closest(".plot") ?? element);
  const [dark, light] = [luminance(over(rgba(paint), ground)), luminance(ground)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
};
const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
// numbers on the cells of a heat map: Plotly picks black or white for each cell
const NOT_ON_PAPER = "script, style, noscript, .heatmaplayer, .heatmap-label";
window.faint = () =>
  [...document.body.querySelectorAll("*")]
    .filter((e) => hasText(e) && !e.closest(NOT_ON_PAPER) && e.checkVisibility() && contrast(e) < 4.5)
    .map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}: ${contrast(e).toFixed(2)}`);

// ---- what the colours of a theme are: paper, ink, and the marks of the first figure
window.colours = () => {
  const first = plots()[0];
  const text = first?.querySelector("text");
  return [
    getComputedStyle(document.body).backgroundColor,
    getComputedStyle(document.body).color,
    text ? getComputedStyle(text).fill : "",
  ];
};

// ---- the keyboard
const name = (e) => e.getAttribute("aria-label") ?? e.textContent.trim().slice(0, 60);
const withRing = (e) => {
  const { outlineStyle, outlineWidth } = getComputedStyle(e);
  return `${e.tagName.toLowerCase()} ${name(e)}${outlineStyle === "none" || parseFloat(outlineWidth) < 1 ? " (no ring)" : ""}`;
};
window.watchFocus = () => {
  window.focused = [];
  addEventListener("focusin", ({ target }) => focused.push(withRing(target)));
};
window.controls = () =>
  [...document.querySelectorAll("a[href], button, summary, .scroll, pre")]
    .filter((e) => e.checkVisibility())
    .map((e) => `${e.tagName.toLowerCase()} ${name(e)}`);
