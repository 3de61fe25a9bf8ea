"use strict";
// Moves the lines of every chart to the step that the slider is at. Without this script the small multiples stay.
(() => {
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const slider = document.getElementById("step");
  const shown = document.getElementById("step-shown");

  const draw = (chart, evolution, index) => {
    for (const line of chart.querySelectorAll("[data-line]")) {
      const { x, y } = evolution.lines[line.dataset.line];
      const label = chart.querySelector(`[data-end="${CSS.escape(line.dataset.line)}"]`);
      let d = "", drawing = false, last = null;
      y[index].forEach((value, i) => {
        if (value !== null) {
          d += `${drawing ? "L" : "M"}${x[i]} ${value}`;
          last = [x[i], value];
        }
        drawing = value !== null;
      });
      line.setAttribute("d", d);
      label.setAttribute("visibility", last ? "visible" : "hidden");
      if (last) {
        label.setAttribute("x", last[0] + 4);
        label.setAttribute("y", last[1] + 4);
      }
    }
  };

  const show = () => {
    const step = numbers.steps[Number(slider.value)];
    const words = step.toLocaleString("en-US");
    shown.textContent = words;
    slider.setAttribute("aria-valuetext", `step ${words}`);
    for (const [slug, evolution] of Object.entries(numbers.evolutions)) {
      // The last recorded step that is not later: quantities may be recorded at other steps.
      const index = evolution.steps.filter((recorded) => recorded <= step).length - 1;
      for (const chart of document.querySelectorAll(`#evolution-${slug} [data-moving]`)) {
        draw(chart, evolution, Math.max(index, 0));
      }
    }
  };

  document.querySelector(".slider").hidden = false;
  for (const charts of document.querySelectorAll(".charts")) {
    charts.hidden = charts.classList.contains("still");
  }
  slider.addEventListener("input", show);
  show();
})();
