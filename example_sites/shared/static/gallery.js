// Says below each photo what this browser has got of it: its type, width and bytes.
function sent(image) {
  const entry = performance.getEntriesByName(image.currentSrc)[0];
  if (!entry || !entry.encodedBodySize) return "";
  const kind = (entry.contentType || "").replace("image/", "").toUpperCase();
  const size = `${Math.max(1, Math.round(entry.encodedBodySize / 1000))} kB`;
  const width = image.currentSrc.match(/[?&]w=(\d+)/);
  return [width && `${width[1]} px`, kind, size].filter(Boolean).join(" ");
}

function caption(image) {
  const target = image.closest("figure")?.querySelector(".sent");
  if (target) target.textContent = sent(image);
}

for (const image of document.querySelectorAll(".card img")) {
  image.addEventListener("load", () => caption(image));
  if (image.complete) caption(image);
}
