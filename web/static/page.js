// Zooming a page image: a click shows it large and keeps the place under the pointer; another fits it again.
for (const canvas of document.querySelectorAll("[data-zoom]")) {
  const image = canvas.querySelector("img");
  image.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width;
    const down = (event.clientY - box.top) / box.height;
    canvas.classList.toggle("large");
    const now = image.getBoundingClientRect();
    canvas.scrollLeft = across * now.width - canvas.clientWidth / 2;
    canvas.scrollTop = down * now.height - canvas.clientHeight / 2;
  });
}

// The thumbnails of a waiting case show their page in the same place.
for (const link of document.querySelectorAll("a[data-page]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.querySelector("[data-zoom] img").src = link.href;
  });
}
