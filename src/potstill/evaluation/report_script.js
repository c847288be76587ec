"use strict";
(function () {
  var sections = Array.prototype.slice.call(document.querySelectorAll("details.task"));
  function setAll(open) { sections.forEach(function (each) { each.open = open; }); }

  // A link into a closed section opens it; some browsers do so by themselves.
  function reveal() {
    var id = location.hash.slice(1), target = id && document.getElementById(id);
    var section = target && target.closest("details");
    if (section && !section.open) { section.open = true; target.scrollIntoView(); }
  }
  window.addEventListener("hashchange", reveal);
  reveal();

  // Paper cannot be clicked.
  var before = [];
  window.addEventListener("beforeprint", function () {
    before = sections.map(function (each) { return each.open; });
    setAll(true);
  });
  window.addEventListener("afterprint", function () {
    sections.forEach(function (each, index) { each.open = before[index]; });
  });

  var buttons = document.getElementById("open-close");
  if (buttons) {
    buttons.hidden = false;
    buttons.addEventListener("click", function (event) {
      if (event.target.dataset.open) { setAll(event.target.dataset.open === "yes"); }
    });
  }
})();
