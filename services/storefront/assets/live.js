// A browser opens six connections to a site, and keeps the pages that somebody leaves, with their streams, to go back to: the
// seventh page would wait for a minute. So a page that is left gives its stream up, and asks again when somebody is back.
(() => {
  let stream;
  htmx.createEventSource = (address) => (stream = new EventSource(address));
  addEventListener("pagehide", () => stream?.close());
  addEventListener("pageshow", (event) => {
    // A stream that is closed and fails is opened anew.
    if (event.persisted) stream?.dispatchEvent(new Event("error"));
  });
})();
